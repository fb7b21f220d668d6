// The process that runs sync scripts: many executions side by side, each in a context of its own.
//
// Messages of the engine: `load` a bundle, `run` an execution, `reply` to a call or `refuse` it, `describe` a script,
// `ping`. Messages to it: `call`, `log`, `done`, `fail`, `described`, `pong`.
import { AsyncLocalStorage } from 'node:async_hooks';
import { Buffer } from 'node:buffer';
import { Worker } from 'node:worker_threads';

import { compiled, describe } from './describe.mjs';
import { described } from './errors.mjs';
import { receive, send } from './frames.mjs';
import { Bundle, close } from './modules.mjs';
import { exported, nangoFor } from './nango.mjs';
import { Sandbox } from './sandbox.mjs';

const MAX_BODY = 64 * 1024 * 1024;
const bundles = new Map();
const executions = new Map();
const current = new AsyncLocalStorage();
const exit = process.exit.bind(process);
const rss = process.memoryUsage.rss.bind(process.memoryUsage);

class Execution {
    constructor({ x, bundle, facts }) {
        this.id = x;
        this.bundle = bundles.get(bundle);
        this.facts = facts;
        this.calls = new Map();
        this.last = 0;
        this.isOver = false;
        this.sandbox = new Sandbox((error) => this.end(error));
    }

    async run() {
        try {
            const { sandbox, facts } = this;
            const namespace = await this.bundle.load(sandbox.context, { nango: exported });
            const script = namespace.default ?? namespace.fetchData;
            const nango = nangoFor({ call: this.call.bind(this), tell: this.tell.bind(this), sandbox, facts });
            await (typeof script === 'function' ? script(nango) : script.exec(nango));
            this.end();
        } catch (error) {
            this.end(error ?? new Error('the script threw nothing'));
        }
    }

    call(name, values, body = Buffer.alloc(0)) {
        if (this.isOver) return Promise.reject(new this.sandbox.realm.Error('the execution is over'));
        if (body.length > MAX_BODY) {
            const size = Math.ceil(body.length / 2 ** 20);
            return Promise.reject(new this.sandbox.realm.Error(`nango.${name}: ${size} MB at once; wanted at most 64 MB`));
        }
        const id = ++this.last;
        const origin = {};
        Error.captureStackTrace(origin);  // an answer comes outside of the script's stack
        return new Promise((resolve, reject) => {
            this.calls.set(id, { resolve, reject, origin });
            send({ t: 'call', x: this.id, i: id, m: name, v: values }, body);
        });
    }

    tell(line) {
        if (!this.isOver) send({ t: 'log', x: this.id, ...line });
    }

    reply({ i, value }, body) {
        const waiting = this.calls.get(i);
        this.calls.delete(i);
        waiting?.resolve({ value, body: Buffer.from(body) });
    }

    refuse({ i, error }) {
        const waiting = this.calls.get(i);
        this.calls.delete(i);
        if (waiting === undefined) return;
        const failure = Object.assign(new this.sandbox.realm.Error(error.message), error);
        failure.stack = waiting.origin.stack.replace(/^.*/, () => `${failure.name}: ${failure.message}`);
        waiting.reject(failure);
    }

    // Ends it once; an error that comes later, such as that of a timer, has no execution any more.
    end(error) {
        if (this.isOver) return;
        this.isOver = true;
        this.sandbox.close();
        executions.delete(this.id);
        if (error === undefined) send({ t: 'done', x: this.id });
        else send({ t: 'fail', x: this.id, error: described(error, this.bundle) });
    }
}

const handlers = {
    load: ({ hash }, body) => bundles.set(hash, new Bundle(JSON.parse(body.toString()))),
    run: (message) => {
        const execution = new Execution(message);
        executions.set(execution.id, execution);
        current.run(execution, () => execution.run());
    },
    reply: (message, body) => executions.get(message.x)?.reply(message, body),
    refuse: (message) => executions.get(message.x)?.refuse(message),
    stop: ({ x }) => executions.get(x)?.end(new Error('stopped')),
    ping: ({ n }) => send({ t: 'pong', n, rss: rss(), open: executions.size }),
    describe: async ({ x }, body) => {
        let bundle;
        try {
            bundle = compiled(JSON.parse(body.toString()));
            const { entry, root, modules } = bundle;
            const answer = { description: await describe(bundle), bundle: { entry, root, modules } };
            send({ t: 'described', x }, Buffer.from(JSON.stringify(answer)));
        } catch (error) {
            send({ t: 'fail', x, error: described(error, bundle) });
        }
    },
};

// A second thread ends this process with its parent, also while a script blocks the first one.
function endWithParent() {
    const source = `
        const { read } = require('node:fs');
        const wait = () => read(${Number(process.argv[4])}, Buffer.alloc(1), 0, 1, null, (error, size) => (size ? wait() : process.kill(process.pid, 'SIGKILL')));
        wait();`;
    new Worker(source, { eval: true, stdout: false, stderr: false }).unref();
}

// An error outside of all calls of the engine belongs to the execution that it came from.
function thrown(error) {
    const execution = current.getStore();
    if (execution !== undefined) execution.end(error);
    else send({ t: 'log', level: 'warn', text: `a script that is over threw: ${error?.message ?? error}` });
}

endWithParent();
process.on('uncaughtException', thrown);
process.on('unhandledRejection', thrown);
const REACHES_OUT = [
    '_debugEnd', '_debugProcess', '_getActiveHandles', '_getActiveRequests', '_kill', '_linkedBinding', '_rawDebug',
    'abort', 'binding', 'chdir', 'dlopen', 'execve', 'exit', 'getBuiltinModule', 'kill', 'loadEnvFile', 'mainModule',
    'openStdin', 'reallyExit', 'report', 'setUncaughtExceptionCaptureCallback', 'stdin',
];
for (const name of REACHES_OUT) delete process[name];
// Packages look at these when they are loaded.
const silent = { isTTY: false, columns: 80, on: () => silent, once: () => silent, write: () => true, end: () => {} };
for (const name of ['stdout', 'stderr']) Object.defineProperty(process, name, { value: silent });
for (const name of ['fetch', 'WebSocket', 'EventSource', 'navigator']) delete globalThis[name];
close();
receive((header, body) => handlers[header.t](header, body), () => exit(0));
send({ t: 'ready', rss: rss() });
