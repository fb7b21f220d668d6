// The modules of a script: its own files, `nango`, and the packages of its project. Everything else is refused.
import { isBuiltin, registerHooks } from 'node:module';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import vm from 'node:vm';

import { COMPILE, wrapped } from './translate.mjs';

const HARMLESS = new Set([
    'assert', 'buffer', 'constants', 'crypto', 'events', 'path', 'path/posix', 'punycode', 'querystring', 'stream',
    'stream/promises', 'string_decoder', 'url', 'util', 'util/types', 'zlib',
]);
const REFUSED = pathToFileURL(join(import.meta.dirname, 'refused.cjs')).href;
const ENDINGS = ['', '.ts', '.mts', '.js', '.mjs', '.cjs', '.json', '/index.ts', '/index.js'];

const packages = new Map();

// From now on no module of Node is loaded that reaches files, processes or the network, whoever asks for it.
export function close() {
    registerHooks({
        resolve(specifier, context, next) {
            if (!isBuiltin(specifier) || HARMLESS.has(bare(specifier))) return next(specifier, context);
            return { url: REFUSED, format: 'commonjs', shortCircuit: true };
        },
    });
}

function bare(specifier) {
    return specifier.startsWith('node:') ? specifier.slice(5) : specifier;
}

// A script as it was described: `{entry, root, modules: {path: {code, imports, map}}}`.
export class Bundle {
    #scripts = new Map();

    constructor({ entry, root, modules }) {
        this.entry = entry;
        this.root = root;
        this.modules = modules;
    }

    // Compile all files. Throws an error with the name of a file that has wrong syntax.
    compile() {
        for (const [path, { code }] of Object.entries(this.modules)) {
            try {
                if (code !== undefined) this.#script(path, code);
            } catch (error) {
                throw new Error(`${path}: ${error.message}; ${COMPILE}`);
            }
        }
    }

    // The exports of new instances of its files in a context; `given` has the exports of some packages by their names.
    async load(context, given) {
        const made = new Map();
        const load = async (path) => {
            if (made.has(path)) return made.get(path).exports;
            const { code, imports, json } = this.modules[path];
            if (json !== undefined) return jsonModule(json);
            const module = { exports: {} };
            made.set(path, module);
            const needed = new Map();
            const imported = (specifier) => needed.get(specifier);
            const importing = (specifier) => this.#imported(String(specifier), path, given, load);
            const make = this.#script(path, code).runInContext(context);
            const steps = make(module.exports, (specifier) => unwrapped(imported(specifier)), module, imported, importing);
            if (!path.endsWith('.cjs')) await steps.next();
            for (const specifier of imports) needed.set(specifier, await importing(specifier));
            await steps.next();
            return module.exports;
        };
        return load(this.entry);
    }

    // A package of the project, which all executions share.
    package(specifier, from = this.entry) {
        const key = `${this.root}\0${specifier}`;
        if (!packages.has(key)) packages.set(key, this.#import(specifier, from));
        return packages.get(key);
    }

    async #imported(specifier, from, given, load) {
        if (Object.hasOwn(given, specifier)) return given[specifier];
        if (!specifier.startsWith('.') && !specifier.startsWith('/')) return this.package(specifier, from);
        const path = specifier.startsWith('/') ? specifier : join(dirname(from), specifier);
        const stem = path.replace(/\.(c|m)?js$/, '');
        const candidates = [...ENDINGS.map((end) => path + end), ...ENDINGS.map((end) => stem + end)];
        const found = candidates.find((candidate) => Object.hasOwn(this.modules, candidate));
        if (found === undefined) throw new Error(`${from}: there is no file for the import '${specifier}'`);
        return load(found);
    }

    #script(path, code) {
        if (!this.#scripts.has(path)) this.#scripts.set(path, new vm.Script(wrapped(code), { filename: path }));
        return this.#scripts.get(path);
    }

    async #import(specifier, from) {
        if (isBuiltin(specifier)) {
            if (HARMLESS.has(bare(specifier))) return import(specifier);
            const reason = 'a sync script has no files, processes or network of its own; requests go through nango';
            throw new Error(`${from}: the module '${specifier}' is not available: ${reason}`);
        }
        let url;
        try {
            url = import.meta.resolve(specifier, pathToFileURL(join(this.root, 'package.json')).href);
        } catch (error) {
            const [name] = /^(?:@[^/]+\/)?[^/]+/.exec(specifier) ?? [specifier];
            const reason = `is not in the project's node_modules (${error.code ?? error.message})`;
            throw new Error(`${from}: the package '${specifier}' ${reason}; run: npm install ${name}`);
        }
        return import(url);
    }
}

// A JSON file has its value as default export, and its members by their names.
function jsonModule(text) {
    const value = JSON.parse(text);
    const members = value !== null && typeof value === 'object' && !Array.isArray(value) ? value : {};
    return { ...members, default: value };
}

// The value that `require` returns for a module that `import` has loaded.
function unwrapped(module) {
    return module !== undefined && 'module.exports' in module ? module['module.exports'] : module;
}
