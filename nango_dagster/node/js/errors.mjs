// An error that a script threw, as plain values: its kind, its sentence, and the lines of the script's files.
import { SourceMap } from 'node:module';

const MAX_LINES = 6;
const MAX_TEXT = 4000;
const FRAME = /(\/[^():]+|file:[^():]+):(\d+):(\d+)/;

// The error with the frames of the bundle's files alone; a line of compiled code is that of the `.ts` file.
export function described(error, bundle) {
    const name = plain(error?.name) ?? 'Error';
    const message = plain(error?.message) ?? plain(error) ?? 'the script threw nothing';
    const result = { name, message, frames: frames(error, bundle) };
    if (error?.payload !== undefined) result.payload = bounded(error.payload);
    if (error?.type !== undefined) result.type = plain(error.type);
    if (error?.isAxiosError) {
        result.status = error.response?.status;
        result.data = bounded(error.response?.data);
        result.code = error.code;
    }
    if (error?.engine !== undefined) result.engine = error.engine;
    return result;
}

function plain(value) {
    try {
        return value === undefined || value === null ? undefined : String(value).slice(0, MAX_TEXT);
    } catch {
        return undefined;
    }
}

function bounded(value) {
    try {
        const text = JSON.stringify(value) ?? '';
        return text.length <= MAX_TEXT ? value : text.slice(0, MAX_TEXT);
    } catch {
        return plain(value);
    }
}

function frames(error, bundle) {
    let stack;
    try {
        stack = String(error?.stack ?? '');
    } catch {
        return [];
    }
    const found = [];
    for (const line of stack.split('\n')) {
        const [, path, row, column] = FRAME.exec(line) ?? [];
        const module = bundle?.modules[path];
        if (module === undefined) continue;
        found.push(placed(path, Number(row), Number(column), module.map));
        if (found.length === MAX_LINES) break;
    }
    return found;
}

function placed(path, row, column, map) {
    if (!map) return `${path}:${row}:${column}`;
    const { originalLine, originalColumn } = new SourceMap(map).findEntry(row - 1, column - 1);
    return originalLine === undefined ? path : `${path}:${originalLine + 1}:${originalColumn + 1}`;
}
