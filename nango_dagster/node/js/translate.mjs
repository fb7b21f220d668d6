// A file of a script as the body of a function: without types, with `require` and `exports` for imports and exports.
//
// Each execution needs instances of its own of all modules, so that values at the top of a file are never shared. Node
// never frees a `vm.SourceTextModule`; functions in a context are freed with it. Lines stay where they are.
import { Buffer } from 'node:buffer';
import { stripTypeScriptTypes } from 'node:module';
import vm from 'node:vm';

const NEEDS_COMPILER = 'ERR_UNSUPPORTED_TYPESCRIPT_SYNTAX';
const COMPILE = 'compile the project with: npx nango compile';
const BEFORE_REGEX = /(?:^|[([{},;:=!&|?+\-*%~^<>]|\b(?:return|typeof|case|in|of|delete|void|throw|new|instanceof|else|do|await|yield))$/;

// The module of a file: `{code, imports, map}`. Throws an error with the file's name.
export function translated(path, source) {
    if (path.endsWith('.json')) return { json: source, imports: [] };
    const { code, map } = /\.[cm]?ts$/.test(path) ? withoutTypes(path, source) : { code: source, map: inlineMap(source) };
    const module = path.endsWith('.cjs') ? required(code) : functional(code);
    try {
        new vm.Script(wrapped(module.code), { filename: path });
    } catch (error) {
        throw new Error(`${path}: ${error.message}; ${COMPILE}`);
    }
    return { ...module, map };
}

// The function that makes an instance of a module.
export function wrapped(code) {
    return `(async function (exports, require, module) {${code}\n})`;
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

function required(code) {
    const imports = [...code.matchAll(/\brequire\(\s*(['"])([^'"]+)\1\s*\)/g)].map(([, , specifier]) => specifier);
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
    for (const start of statements(code)) {
        let match;
        if ((match = matched(IMPORT, start))) {
            const [all, standard, whole, names, , specifier] = match;
            const parts = [];
            if (standard) parts.push([`default: ${standard}`, standard]);
            for (const [name, as] of pairs(names)) parts.push([`${name}: ${as}`, as]);
            const rest = code.slice(0, start) + code.slice(start + all.length);
            const used = parts.filter(([, local]) => isUsed(rest, local)).map(([text]) => text);
            const isWholeUsed = whole !== undefined && isUsed(rest, whole);
            if (used.length || isWholeUsed) imports.add(specifier);
            const from = `require(${JSON.stringify(specifier)})`;
            if (used.length) loads.push(`const { ${used.join(', ')} } = ${from};`);
            if (isWholeUsed) loads.push(`const ${whole} = ${from};`);
            replace(start, start + all.length, '');
        } else if ((match = matched(EFFECT, start))) {
            imports.add(match[2]);
            replace(start, start + match[0].length, '');
        } else if ((match = matched(EXPORT_FROM, start))) {
            const [all, star, as, names, , specifier] = match;
            imports.add(specifier);
            const from = `require(${JSON.stringify(specifier)})`;
            if (as) export_(as, from);
            else if (star) loads.push(`for (const name in ${from}) if (name !== 'default') exports[name] ??= ${from}[name];`);
            else for (const [name, outer] of pairs(names)) export_(outer, `${from}[${JSON.stringify(name)}]`);
            replace(start, start + all.length, '');
        } else if ((match = matched(EXPORT_NAMES, start))) {
            for (const [name, outer] of pairs(match[1])) export_(outer, name);
            replace(start, start + match[0].length, '');
        } else if ((match = matched(EXPORT_DEFAULT, start))) {
            const [all, kind, name] = match;
            if (name) export_('default', name);
            replace(start, start + all.length, name ? `${kind} ${name}` : 'exports.default = ');
        } else if ((match = matched(EXPORT_ONE, start))) {
            export_(match[1], match[1]);
            replace(start, start + 'export'.length, '');
        }
    }
    pieces.push(code.slice(at));
    const exported = getters.length ? `Object.defineProperties(exports, Object.getOwnPropertyDescriptors({ ${getters.join(', ')} }));` : '';
    return { code: `'use strict'; ${exported} ${loads.join(' ')} ${pieces.join('')}`, imports: [...imports] };
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

// TypeScript drops an imported name that is used as a type alone, also where the import does not say `type`.
function isUsed(code, name) {
    return new RegExp(`(?<![\\w$.])${name.replaceAll('$', '\\$')}(?![\\w$])`).test(code);
}

// Where the statements `import` and `export` begin, outside of any brackets, strings, comments and regular expressions.
function statements(code) {
    const found = [];
    const open = [];
    const token = /[\w$]+|\/[/*]?|[^\s\w$]/g;
    let before = '';
    for (let match = token.exec(code); match !== null; match = token.exec(code)) {
        const [text] = match;
        let next = token.lastIndex;
        if (text === '//') next = end(code, '\n', next);
        else if (text === '/*') next = end(code, '*/', next) + 2;
        else if (text === '"' || text === "'") next = endOfText(code, match.index) + 1;
        else if (text === '`' || (text === '}' && open.at(-1) === '`')) {
            if (text === '}') open.pop();
            const at = endOfTemplate(code, next);
            next = at + 1;
            if (code[at] === '{') open.push('`');
        } else if (text === '/' && BEFORE_REGEX.test(before)) next = endOfRegex(code, match.index) + 1;
        else if (text === '(' || text === '[' || text === '{') open.push(text);
        else if (text === ')' || text === ']' || text === '}') open.pop();
        else if ((text === 'import' || text === 'export') && open.length === 0 && before !== '.') {
            if (text === 'export' || !/^\s*[(.]/.test(code.slice(next, next + 20))) found.push(match.index);
        }
        if (text !== '//' && text !== '/*') before = text;
        token.lastIndex = next;
    }
    return found;
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
