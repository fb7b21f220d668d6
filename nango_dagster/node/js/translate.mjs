// A file of a script as the body of a function: without types, with `imported` and `exports` for imports and exports.
//
// Each execution needs instances of its own of all modules, so that values at the top of a file are never shared. Node
// never frees a `vm.SourceTextModule`; functions in a context are freed with it. Lines stay where they are.
import { Buffer } from 'node:buffer';
import { stripTypeScriptTypes } from 'node:module';

// The advice for a file that cannot be read here.
export const COMPILE = 'compile the project with: npx nango compile';
const NEEDS_COMPILER = 'ERR_UNSUPPORTED_TYPESCRIPT_SYNTAX';
const BEFORE_REGEX = /(?:^|[([{},;:=!&|?+\-*%~^<>]|\b(?:return|typeof|case|in|of|delete|void|throw|new|instanceof|else|do|await|yield))$/;

// The module of a file: `{code, imports, map}`. Throws an error with the file's name.
export function translated(path, source) {
    if (path.endsWith('.json')) return { json: source, imports: [] };
    const { code, map } = /\.[cm]?ts$/.test(path) ? withoutTypes(path, source) : { code: source, map: inlineMap(source) };
    return { ...(path.endsWith('.cjs') ? required(code) : functional(code)), map };
}

// The function that makes an instance of a module. A module with `import` and `export` stops once when its exports are
// there, so that modules that import each other find them.
export function wrapped(code) {
    return `(async function* (exports, require, module, imported, importing) {${code}\n})`;
}

function withoutTypes(path, source) {
    try {
        return { code: stripTypeScriptTypes(source) };
    } catch (error) {
        const reason = `${path}: ${sentence(error)}`;
        if (error.code !== NEEDS_COMPILER) throw new Error(reason);
        return transformed(path, source, reason);
    }
}

// Syntax that is more than types, such as an enum.
function transformed(path, source, reason) {
    try {
        const code = stripTypeScriptTypes(source, { mode: 'transform', sourceMap: true });
        return { code, map: inlineMap(code) };
    } catch {
        throw new Error(`${reason}; ${COMPILE}`);
    }
}

function inlineMap(code) {
    const [, text] = /\/\/# sourceMappingURL=data:application\/json;(?:charset=utf-?8;)?base64,(\S+)/.exec(code) ?? [];
    return text === undefined ? undefined : JSON.parse(Buffer.from(text, 'base64').toString());
}

function sentence(error) {
    return String(error.message).replace(/\s+/g, ' ').trim().slice(0, 500);
}

// --- modules -------------------------------------------------------------------------------------------------------

const REQUIRED = /\brequire\(\s*(['"])([^'"]+)\1\s*\)/g;

function required(code) {
    const imports = [...code.matchAll(REQUIRED)].map(([, , specifier]) => specifier);
    return { code, imports: [...new Set(imports)] };
}

const NAME = '[\\w$]+';
const NAMES = '\\{[^}]*\\}';
const FROM = `from\\s*(['"])([^'"]+)\\4(?:\\s*with\\s*\\{[^}]*\\})?\\s*;?`;
const IMPORT = new RegExp(`import\\s*(?:(${NAME})\\s*,?\\s*)?(?:\\*\\s*as\\s+(${NAME})|(${NAMES}))?\\s*${FROM}`, 'y');
const EFFECT = /import\s*(['"])([^'"]+)\1\s*;?/y;
const EXPORT_FROM = new RegExp(`export\\s*(?:(\\*)(?:\\s*as\\s+(${NAME}))?|(${NAMES}))\\s*${FROM}`, 'y');
const EXPORT_NAMES = new RegExp(`export\\s*(${NAMES})\\s*;?`, 'y');
const EXPORT_DEFAULT = new RegExp(`export\\s+default\\s+(?:((?:async\\s+)?function\\s*\\*?|class)\\s+(?!extends\\b)(${NAME}))?`, 'y');
const EXPORT_PATTERN = /export\s+(?:const|let|var)\s*(?:\{([^{}[\]]*)\}|\[([^{}[\]]*)\])\s*=/y;
const EXPORT_SEVERAL = new RegExp(`export\\s+(?:let|const|var)\\s+(${NAME}[^,;(){}[\\]'"\`\\n]*(?:,\\s*${NAME}[^,;(){}[\\]'"\`\\n]*)+);`, 'y');
const EXPORT_ONE = new RegExp(`export\\s+(?:const|let|var|class|(?:async\\s+)?function\\s*\\*?)\\s*(${NAME})`, 'y');

function functional(code) {
    const getters = [];
    const loads = [];
    const imports = new Set();
    const pieces = [];
    let at = 0;
    const replace = (start, end, text) => {
        const removed = code.slice(start, end);
        pieces.push(code.slice(at, start), text, '\n'.repeat(removed.split('\n').length - 1 - (text.split('\n').length - 1)));
        at = end;
    };
    const export_ = (name, value) => getters.push(`get ${JSON.stringify(name)}() { return ${value}; }`);
    const matched = (pattern, start) => {
        pattern.lastIndex = start;
        return pattern.exec(code);
    };
    const { statements, names, requires } = scanned(code);
    for (const specifier of requires) imports.add(specifier);
    for (const { start, isDynamic } of statements) {
        let match;
        if (isDynamic) {
            replace(start, start + 'import'.length, 'importing');
        } else if ((match = matched(IMPORT, start))) {
            const [all, standard, whole, list, , specifier] = match;
            const isUsed = usesOf(names, [standard, whole, list]);
            const parts = [];
            if (standard) parts.push([`default: ${standard}`, standard]);
            for (const [name, as] of pairs(list)) parts.push([`${name}: ${as}`, as]);
            const used = parts.filter(([, local]) => isUsed(local)).map(([text]) => text);
            const isWholeUsed = whole !== undefined && isUsed(whole);
            if (used.length || isWholeUsed) imports.add(specifier);
            const from = `imported(${JSON.stringify(specifier)})`;
            if (used.length) loads.push(`const { ${used.join(', ')} } = ${from};`);
            if (isWholeUsed) loads.push(`const ${whole} = ${from};`);
            replace(start, start + all.length, '');
        } else if ((match = matched(EFFECT, start))) {
            imports.add(match[2]);
            replace(start, start + match[0].length, '');
        } else if ((match = matched(EXPORT_FROM, start))) {
            const [all, star, as, list, , specifier] = match;
            imports.add(specifier);
            const from = `imported(${JSON.stringify(specifier)})`;
            if (as) export_(as, from);
            else if (star) loads.push(`for (const name in ${from}) if (name !== 'default' && !(name in exports)) exports[name] = ${from}[name];`);
            else for (const [name, outer] of pairs(list)) export_(outer, `${from}[${JSON.stringify(name)}]`);
            replace(start, start + all.length, '');
        } else if ((match = matched(EXPORT_NAMES, start))) {
            for (const [name, outer] of pairs(match[1])) export_(outer, name);
            replace(start, start + match[0].length, '');
        } else if ((match = matched(EXPORT_DEFAULT, start))) {
            const [all, kind, name] = match;
            if (name) export_('default', name);
            replace(start, start + all.length, name ? `${kind} ${name}` : 'exports.default = ');
        } else if ((match = matched(EXPORT_PATTERN, start) ?? matched(EXPORT_SEVERAL, start))) {
            for (const name of declared(match[1] ?? match[2])) export_(name, name);
            replace(start, start + 'export'.length, '');
        } else if ((match = matched(EXPORT_ONE, start))) {
            export_(match[1], match[1]);
            replace(start, start + 'export'.length, '');
        }
    }
    pieces.push(code.slice(at));
    const exported = getters.length ? `Object.defineProperties(exports, Object.getOwnPropertyDescriptors({ ${getters.join(', ')} }));` : '';
    return { code: `'use strict'; ${exported} yield; ${loads.join(' ')} ${pieces.join('')}`, imports: [...imports] };
}

// The names in braces, each with the name that it has on the other side of `as`.
function pairs(names) {
    return (names ?? '')
        .replace(/^\{|\}$/g, '')
        .split(',')
        .map((part) => part.trim())
        .filter((part) => part && !part.startsWith('type '))
        .map((part) => part.split(/\s+as\s+/))
        .map(([name, as]) => [name, as ?? name]);
}

// The names that a list of declarations or a pattern without inner patterns declares.
function declared(list) {
    const names = list.split(',').map((part) => part.replace(/=[^]*$/, '').replace(/^[^]*:/, '').replace('...', '').trim());
    return names.filter(Boolean);
}

// Whether a file uses a name outside of the import that brings it. TypeScript drops an imported name that is used as a
// type alone, also where the import does not say `type`.
function usesOf(names, clauses) {
    const own = clauses.join(' ').match(/[\w$]+/g) ?? [];
    return (name) => names.get(name) > own.filter((it) => it === name).length;
}

// The statements `import` and `export` outside of any brackets, strings, comments and regular expressions, the calls of
// `import` and of `require`, and how often each name is used.
function scanned(code) {
    const statements = [];
    const requires = [];
    const names = new Map();
    const open = [];
    const token = /[\w$]+|\.{3}|\/[/*]?|[^\s\w$]/g;
    let before = '';
    for (let match = token.exec(code); match !== null; match = token.exec(code)) {
        const [text] = match;
        const start = match.index;
        let next = token.lastIndex;
        if (text === '//') next = end(code, '\n', next);
        else if (text === '/*') next = end(code, '*/', next) + 2;
        else if (text === '"' || text === "'") next = endOfText(code, start) + 1;
        else if (text === '`' || (text === '}' && open.at(-1) === '`')) {
            if (text === '}') open.pop();
            const at = endOfTemplate(code, next);
            next = at + 1;
            if (code[at] === '{') open.push('`');
        } else if (text === '/' && BEFORE_REGEX.test(before)) next = endOfRegex(code, start) + 1;
        else if (text === '(' || text === '[' || text === '{') open.push(text);
        else if (text === ')' || text === ']' || text === '}') open.pop();
        else if (before !== '.') {
            names.set(text, (names.get(text) ?? 0) + 1);
            if (text === 'export' && open.length === 0) statements.push({ start });
            if (text === 'import') {
                const [, mark] = /^\s*([(.])?/.exec(code.slice(next, next + 20));
                if (mark === '(') statements.push({ start, isDynamic: true });
                else if (mark === undefined && open.length === 0) statements.push({ start });
            }
            if (text === 'require') {
                REQUIRED.lastIndex = start;
                const call = REQUIRED.exec(code);
                if (call?.index === start) requires.push(call[2]);
            }
        }
        if (text !== '//' && text !== '/*') before = text;
        token.lastIndex = next;
    }
    return { statements, names, requires };
}

function end(code, mark, from) {
    const at = code.indexOf(mark, from);
    return at < 0 ? code.length : at;
}

function endOfText(code, at) {
    const quote = code[at];
    for (at++; at < code.length && code[at] !== quote; at++) if (code[at] === '\\') at++;
    return at;
}

// The position of the closing quote, or of the brace of the next `${`.
function endOfTemplate(code, at) {
    for (; at < code.length && code[at] !== '`'; at++) {
        if (code[at] === '\\') at++;
        else if (code[at] === '$' && code[at + 1] === '{') return at + 1;
    }
    return at;
}

function endOfRegex(code, at) {
    let isClass = false;
    for (at++; at < code.length && code[at] !== '\n' && (isClass || code[at] !== '/'); at++) {
        if (code[at] === '\\') at++;
        else if (code[at] === '[') isClass = true;
        else if (code[at] === ']') isClass = false;
    }
    return at;
}
