// The globals of a script: those that Nango's scripts have, in a context of its own for each execution.
import { Buffer } from 'node:buffer';
import { clearTimeout as stop, setTimeout as start } from 'node:timers';
import { types } from 'node:util';
import vm from 'node:vm';

const MUTE = Object.fromEntries(['debug', 'error', 'info', 'log', 'trace', 'warn'].map((name) => [name, () => {}]));
const INSIDE = `({
    parse: JSON.parse, Date, Error, Map, Promise, RegExp, Set, Uint8Array,
    Headers: class AxiosHeaders {
        get(name) { return this[String(name).toLowerCase()]; }
        has(name) { return this.get(name) !== undefined; }
    },
    ActionError: class ActionError extends Error {
        constructor(payload) {
            super();
            this.name = 'ActionError';
            this.type = 'action_script_runtime_error';
            if (payload) this.payload = payload;
        }
    },
})`;
const inside = new vm.Script(INSIDE, { filename: 'nango' });
const KINDS = {
    Date: types.isDate, Error: types.isNativeError, Map: types.isMap, Promise: types.isPromise,
    RegExp: types.isRegExp, Set: types.isSet, Uint8Array: types.isUint8Array,
};
const ordinary = Function.prototype[Symbol.hasInstance];

// Packages live in another realm than scripts: let `instanceof` accept built-in objects of all realms.
function acceptAllRealms(realm) {
    for (const [name, isKind] of Object.entries(KINDS)) {
        const type = realm[name];
        const value = function (it) {
            return ordinary.call(this, it) || (this === type && isKind(it));
        };
        Object.defineProperty(type, Symbol.hasInstance, { value });
    }
}

acceptAllRealms(globalThis);

// A context, the constructors of its own realm, and its timers; `failed` gets what a timer throws.
export class Sandbox {
    constructor(failed) {
        this.timers = new Map();
        let last = 0;
        const setTimeout = (callback, delay, ...values) => {
            const id = ++last;
            const run = () => {
                this.timers.delete(id);
                try {
                    callback(...values);
                } catch (error) {
                    failed(error);
                }
            };
            this.timers.set(id, start(run, delay));
            return id;
        };
        const clearTimeout = (id) => {
            stop(this.timers.get(id));
            this.timers.delete(id);
        };
        const globals = { Buffer, URL, URLSearchParams, console: { ...MUTE }, setTimeout, clearTimeout };
        this.context = vm.createContext(globals, { name: 'sync script', codeGeneration: { strings: true, wasm: false } });
        this.realm = inside.runInContext(this.context);
        acceptAllRealms(this.realm);
    }

    // No timer fires from now on.
    close() {
        for (const timer of this.timers.values()) stop(timer);
        this.timers.clear();
    }
}
