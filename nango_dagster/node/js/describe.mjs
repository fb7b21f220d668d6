// The description of a script: its config, its models as JSON Schema, and its files without types.
import { Bundle } from './modules.mjs';
import { exported } from './nango.mjs';
import { Sandbox } from './sandbox.mjs';
import { built, noting } from './schemas.mjs';
import { translated } from './translate.mjs';

// One context for all descriptions: a new one for each takes as long as removing the types, and twice its memory.
let sandbox;

// The files of a script without types, ready to run; `files` are its own files by path.
export function compiled({ entry, root, files }) {
    const modules = {};
    for (const [path, source] of Object.entries(files)) modules[path] = translated(path, source);
    const bundle = new Bundle({ entry, root, modules });
    bundle.compile();
    return bundle;
}

// The config of a script, with its models as JSON Schema.
export async function describe(bundle) {
    sandbox ??= new Sandbox(() => {});
    try {
        return await description(bundle);
    } finally {
        sandbox.close();
    }
}

async function description(bundle) {
    const zod = await zodOf(bundle);
    const described = async (packages) => config(await bundle.load(sandbox.context, packages), zod);
    if (zod === null) return described({ nango: exported });
    try {
        return await described({ nango: exported, zod: noting(zod) });
    } catch {
        // zod itself names the line of an error.
        return described({ nango: exported, zod });
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

function config(namespace, zod) {
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
    const whole = built(model);
    try {
        const { $schema, ...document } = zod.toJSONSchema(whole, { io: 'input', unrepresentable: 'any' });
        return document;
    } catch {
        return { type: 'object' };
    }
}
