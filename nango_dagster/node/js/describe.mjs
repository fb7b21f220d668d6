// What a script says of itself: its config, its models as JSON Schema, and its files without types.
import { Bundle } from './modules.mjs';
import { exported } from './nango.mjs';
import { Sandbox } from './sandbox.mjs';
import { translated } from './translate.mjs';

// One context for all descriptions: a new one for each takes as long as removing the types, and twice its memory.
let sandbox;

// The description and the bundle of a script; `files` are its own files by path.
export async function describe({ entry, root, files }) {
    const modules = {};
    for (const [path, source] of Object.entries(files)) modules[path] = translated(path, source);
    const bundle = new Bundle({ entry, root, modules });
    bundle.compile();
    sandbox ??= new Sandbox(() => {});
    try {
        const zod = await zodOf(bundle);
        const namespace = await bundle.load(sandbox.context, exported);
        return { description: await config(namespace, zod), bundle: { entry, root, modules } };
    } finally {
        sandbox.close();
    }
}

async function zodOf(bundle) {
    try {
        return await bundle.package('zod');
    } catch {
        return null;
    }
}

// --- the config ----------------------------------------------------------------------------------------------------

async function config(namespace, zod) {
    const value = namespace.default ?? namespace.fetchData;
    if (typeof value === 'function') return { kind: 'function' };
    if (typeof value?.exec !== 'function') {
        throw new Error('the file has no default export of createSync({...}) with an `exec`, and no function fetchData');
    }
    const { exec, onWebhook, models, metadata, checkpoint, ...plain } = value;
    return {
        ...JSON.parse(JSON.stringify(plain)),
        kind: value.type ?? 'sync',
        models: Object.fromEntries(Object.entries(models ?? {}).map(([name, model]) => [name, schema(zod, model)])),
        metadata: schema(zod, metadata),
        checkpoint: schema(zod, checkpoint),
        hasOnWebhook: typeof onWebhook === 'function',
    };
}

function schema(zod, model) {
    if (model === undefined || model === null) return null;
    try {
        const { $schema, ...document } = zod.toJSONSchema(model, { io: 'input', unrepresentable: 'any' });
        return document;
    } catch {
        return { type: 'object' };
    }
}
