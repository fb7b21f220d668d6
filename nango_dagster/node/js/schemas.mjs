// A zod that notes the calls that make a schema, and makes it when somebody uses it.
//
// Most schemas of a script describe the answers of its API; its description needs those of its models alone. To build a
// schema costs zod a hundred times as much as to note a call. Schemas that equal calls make are one.

// Functions and methods of zod that return a schema. Each other one, and each property, is zod's own.
const BUILDERS = new Set([
    'and', 'any', 'array', 'bigint', 'boolean', 'catchall', 'date', 'datetime', 'default', 'describe', 'discriminatedUnion',
    'email', 'endsWith', 'enum', 'extend', 'gt', 'gte', 'int', 'intersection', 'lazy', 'length', 'literal', 'looseObject',
    'lt', 'lte', 'max', 'merge', 'min', 'never', 'nonempty', 'nonnegative', 'null', 'nullable', 'nullish', 'number',
    'object', 'omit', 'optional', 'or', 'partial', 'passthrough', 'pick', 'pipe', 'positive', 'preprocess', 'record',
    'refine', 'regex', 'required', 'startsWith', 'strict', 'strictObject', 'string', 'strip', 'transform', 'trim', 'tuple',
    'undefined', 'union', 'unknown', 'url', 'uuid', 'void',
]);
// Properties of zod that have such functions.
const FAMILIES = new Set(['coerce', 'default', 'iso', 'z']);
// These are properties of some schemas.
const OF_ZOD_ALONE = new Set(['enum']);
const LONGEST_KEY = 500;

const notes = new WeakMap();
const shared = new Map();

// The exports of zod as a script imports them.
export function noting(zod) {
    const family = (owner, path) => new Proxy({}, {
        ...standIn(() => owner),
        get(_, name) {
            const value = owner[name];
            if (FAMILIES.has(name) && typeof value === 'object') return family(value, `${path}.${name}`);
            if (!BUILDERS.has(name) || typeof value !== 'function') return value;
            return (...values) => noted({ make: () => value(...values.map(argument)), key: keyOf(path, name, values) });
        },
    });
    return family(zod, 'z');
}

// The schema of a note, and each other value as it is.
export function built(value) {
    const note = notes.get(value);
    return note === undefined ? value : schema(note);
}

function noted(note) {
    const proxy = new Proxy(note, ON_USE);
    notes.set(proxy, note);
    return proxy;
}

function schema(note) {
    note.schema ??= shared.get(note.key) ?? note.make();
    if (note.key !== undefined) shared.set(note.key, note.schema);
    return note.schema;
}

// The traps of a proxy that stands for an object.
function standIn(object) {
    const traps = ['defineProperty', 'deleteProperty', 'getPrototypeOf', 'has', 'ownKeys', 'set', 'setPrototypeOf'];
    return {
        ...Object.fromEntries(traps.map((trap) => [trap, (note, ...values) => Reflect[trap](object(note), ...values.slice(0, 2))])),
        getOwnPropertyDescriptor(note, name) {
            const descriptor = Reflect.getOwnPropertyDescriptor(object(note), name);
            return descriptor && { ...descriptor, configurable: true };
        },
    };
}

const ON_USE = {
    ...standIn(schema),
    get(note, name) {
        if (!BUILDERS.has(name) || OF_ZOD_ALONE.has(name)) return schema(note)[name];
        return (...values) => noted({
            make: () => schema(note)[name](...values.map(argument)),
            key: keyOf(note.key, name, values),
        });
    },
};

// An argument with schemas in the places of notes. A getter stays one: zod reads schemas that contain themselves late.
function argument(value) {
    if (typeof value === 'function') return function (...values) { return built(value.apply(this, values)); };
    if (value === null || typeof value !== 'object') return value;
    if (notes.has(value)) return built(value);
    if (Array.isArray(value)) return value.map(argument);
    if (!isPlain(value)) return value;
    const properties = Object.getOwnPropertyDescriptors(value);
    for (const property of Object.values(properties)) {
        const { get } = property;
        if (get) property.get = () => built(get.call(value));
        else property.value = argument(property.value);
    }
    return Object.create(Object.getPrototypeOf(value), properties);
}

function isPlain(value) {
    const prototype = Object.getPrototypeOf(value);
    return prototype === null || Object.getPrototypeOf(prototype) === null;
}

// The calls as text; undefined where equal text does not mean equal schemas.
function keyOf(base, name, values) {
    if (base === undefined) return undefined;
    const texts = values.map(textOf);
    const key = `${base}.${name}(${texts.join()})`;
    return texts.includes(undefined) || key.length > LONGEST_KEY ? undefined : key;
}

function textOf(value) {
    if (typeof value === 'string') return JSON.stringify(value);
    if (Array.isArray(value)) {
        const texts = value.map(textOf);
        return texts.includes(undefined) ? undefined : `[${texts.join()}]`;
    }
    if (typeof value === 'object' && value !== null) return notes.get(value)?.key;
    return ['bigint', 'function', 'symbol'].includes(typeof value) ? undefined : String(value);
}
