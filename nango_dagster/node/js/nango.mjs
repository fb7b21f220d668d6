// The `nango` object of a script. Each operation is a call of the engine; the engine has the rules.
import { Buffer } from 'node:buffer';

const SLICE = 1000;
const MAX_LOG = 10_000;
const LEVELS = new Set(['debug', 'info', 'warn', 'error']);
const VERBS = ['get', 'post', 'put', 'patch', 'delete'];
// Operations whose arguments and results are plain values.
const PLAIN = [
    'trackDeletesStart', 'trackDeletesEnd', 'deleteRecordsFromPreviousExecutions', 'getCheckpoint', 'saveCheckpoint',
    'clearCheckpoint', 'getMetadata', 'setMetadata', 'updateMetadata', 'getConnection', 'getToken', 'getIntegration',
    'getEnvironmentVariables', 'getWebhookURL', 'setMergingStrategy', 'tryAcquireLock', 'releaseLock', 'releaseAllLocks',
    'triggerSync', 'startSync', 'triggerAction', 'getFieldMapping', 'setFieldMapping', 'getFlowAttributes',
];
const AXIOS_CODES = { 4: 'ERR_BAD_REQUEST', 5: 'ERR_BAD_RESPONSE' };

// The exports of the module `nango`.
export const exported = {
    createSync: (config) => ({ type: 'sync', ...config }),
    createAction: (config) => ({ type: 'action', ...config }),
    createOnEvent: (config) => ({ type: 'onEvent', ...config }),
};

// `call(name, values, body)` asks the engine and resolves to `{value, body}`; `tell` does not wait for an answer.
export function nangoFor({ call, tell, sandbox, facts }) {
    const { realm } = sandbox;
    const nango = { ...facts.properties, ActionError: realm.ActionError };
    nango.lastSyncDate = facts.lastSyncDate == null ? undefined : new realm.Date(facts.lastSyncDate);

    const value = async (name, values, body) => {
        const reply = await call(name, values, body);
        return reply.body.length ? realm.parse(reply.body.toString()) : reply.value;
    };
    for (const name of PLAIN) nango[name] = (...values) => value(name, values);

    const inSlices = (name) => async (records, model) => {
        if (!records?.length) return true;
        for (let at = 0; at < records.length; at += SLICE) {
            const slice = distinct(records.slice(at, at + SLICE));
            await call(name, [model], Buffer.from(JSON.stringify(slice)));
        }
        return true;
    };
    for (const name of ['batchSave', 'batchUpdate', 'batchDelete']) nango[name] = inSlices(name);
    nango.batchSend = nango.batchSave;

    nango.getRecordsByIds = async (ids, model) => {
        const pairs = await value('getRecordsByIds', [ids, model]);
        return new realm.Map(pairs.map(([at, record]) => [ids[at], record]));
    };
    nango.listRecords = async function* (model, options) {
        let cursor = options?.cursor;
        do {
            const page = await value('listRecords', [model, { ...options, cursor }]);
            yield* page.records;
            cursor = page.next_cursor;
        } while (cursor);
    };

    const request = async (config) => {
        const { sent, body } = encoded(config);
        return answer(realm, config, await call('proxy', [sent], body));
    };
    nango.proxy = request;
    for (const verb of VERBS) nango[verb] = (config) => request({ ...config, method: verb.toUpperCase() });
    nango.paginate = (config) => pages(realm, call, config);
    nango.uncontrolledFetch = async ({ url, method, headers, body }) => {
        const { sent, body: bytes } = encoded({ endpoint: String(url), method, headers, data: body });
        return fetched(realm, await call('uncontrolledFetch', [sent], bytes));
    };

    nango.log = async (...values) => {
        const last = values.at(-1);
        const hasLevel = values.length > 1 && LEVELS.has(last?.level);
        const texts = (hasLevel ? values.slice(0, -1) : values).map(text);
        tell({ level: hasLevel ? last.level : 'info', text: texts.join(' ').slice(0, MAX_LOG) });
    };
    nango.setLogger = () => {};
    nango.zodValidateInput = async ({ zodSchema, input }) => {
        const result = zodSchema.safeParse(input);
        if (result.success) return result;
        throw new realm.ActionError({ message: 'Invalid input provided', errors: result.error?.issues });
    };
    return nango;
}

// Of several records with the same id in one batch the first one is saved.
function distinct(records) {
    const ids = new Set();
    for (const record of records) ids.add(record?.id === undefined ? record : String(record.id));
    if (ids.size === records.length) return records;
    return records.filter((record) => ids.delete(record?.id === undefined ? record : String(record.id)));
}

function text(value) {
    if (typeof value === 'string') return value;
    if (value?.stack && value?.message) return String(value.stack);
    try {
        return JSON.stringify(value) ?? String(value);
    } catch {
        return String(value);
    }
}

// --- requests ------------------------------------------------------------------------------------------------------

// The config without functions, and the bytes of its body where it is no JSON.
function encoded({ data, params, ...config }) {
    const sent = { ...config };
    sent.params = params instanceof URLSearchParams ? params.toString() : params;
    if (data === undefined || data === null) return { sent };
    if (data instanceof URLSearchParams) return { sent: { ...sent, bodyKind: 'form' }, body: Buffer.from(data.toString()) };
    if (typeof data === 'string') return { sent: { ...sent, bodyKind: 'text' }, body: Buffer.from(data) };
    if (ArrayBuffer.isView(data)) {
        return { sent: { ...sent, bodyKind: 'bytes' }, body: Buffer.from(data.buffer, data.byteOffset, data.byteLength) };
    }
    return { sent: { ...sent, bodyKind: 'json' }, body: Buffer.from(JSON.stringify(data)) };
}

// The answer of the engine as axios would give it: a response, or an error that is thrown.
function answer(realm, config, { value, body }) {
    const sent = { ...config, method: (config.method ?? 'GET').toLowerCase(), url: value.url };
    if (value.network) throw numbered(axiosError(realm, value.message, value.network, sent), value);
    const response = {
        data: decoded(realm, body, config.responseType),
        status: value.status,
        statusText: value.statusText,
        headers: Object.assign(new realm.Headers(), value.headers),
        config: sent,
        request: {},
    };
    if (value.status < 400) return response;
    const code = AXIOS_CODES[Math.floor(value.status / 100)];
    throw numbered(axiosError(realm, `Request failed with status code ${value.status}`, code, sent, response), value);
}

// The engine finds its own error by this number, where the script lets it pass.
function numbered(error, { error: number }) {
    return Object.defineProperty(error, 'engine', { value: number });
}

function decoded(realm, body, type) {
    if (type === 'arraybuffer') return Buffer.from(body);
    const plain = body.toString().replace(/^\uFEFF/, '');
    if (type === 'text' || plain === '') return plain;
    try {
        return realm.parse(plain);
    } catch {
        return plain;
    }
}

function axiosError(realm, message, code, config, response) {
    const error = new realm.Error(message);
    Object.assign(error, { name: 'AxiosError', isAxiosError: true, code, config, request: {} });
    if (response !== undefined) Object.assign(error, { response, status: response.status });
    error.toJSON = () => ({ name: error.name, message, code, status: error.status });
    return error;
}

async function* pages(realm, call, config) {
    const onPage = config.paginate?.on_page;
    const { sent, body } = encoded(config);
    const wantsResponse = typeof onPage === 'function';
    let reply = await call('paginate', [sent, wantsResponse], body);
    let isOver = false;
    try {
        for (;;) {
            const { value } = reply;
            isOver = value.over || value.error !== undefined;
            if (value.over) return;
            if (value.error !== undefined) answer(realm, config, reply);
            yield realm.parse(reply.body.toString('utf8', 0, value.split));
            if (wantsResponse && value.tells) {
                const response = answer(realm, config, { value, body: reply.body.subarray(value.split) });
                await onPage({ nextPageParam: value.nextPageParam ?? undefined, response });
            }
            reply = await call('nextPage', [value.pages, wantsResponse]);
        }
    } finally {
        if (!isOver) await call('closePages', [reply.value.pages]);
    }
}

function fetched(realm, { value, body }) {
    const headers = new Map(Object.entries(value.headers));
    return {
        ok: value.status >= 200 && value.status < 300,
        status: value.status,
        url: value.url,
        headers: { get: (name) => headers.get(String(name).toLowerCase()) ?? null, has: (name) => headers.has(String(name).toLowerCase()) },
        text: async () => body.toString(),
        json: async () => realm.parse(body.toString()),
        arrayBuffer: async () => Uint8Array.from(body).buffer,
    };
}
