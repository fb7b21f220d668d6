// Length-framed messages: two little-endian lengths of four bytes, a JSON header, and raw bytes.
import { Buffer } from 'node:buffer';
import { writeSync } from 'node:fs';
import { Socket } from 'node:net';

const [INPUT, OUTPUT] = process.argv.slice(2, 4).map(Number);
const PREFIX = 8;
const EMPTY = Buffer.alloc(0);

// Send one message. The write blocks while the pipe is full, so that a fast script waits for a slow store.
export function send(header, body = EMPTY) {
    const head = Buffer.from(JSON.stringify(header));
    const prefix = Buffer.allocUnsafe(PREFIX);
    prefix.writeUInt32LE(head.length, 0);
    prefix.writeUInt32LE(body.length, 4);
    writeAll(body.length > 65536 ? Buffer.concat([prefix, head]) : Buffer.concat([prefix, head, body]));
    if (body.length > 65536) writeAll(body);
}

function writeAll(bytes) {
    for (let at = 0; at < bytes.length; ) at += writeSync(OUTPUT, bytes, at);
}

// Call `handle(header, body)` for each message, in order; `closed` when the other side is gone.
export function receive(handle, closed) {
    const socket = new Socket({ fd: INPUT, readable: true, writable: false });
    let chunks = [];
    let size = 0;
    let wanted = PREFIX;
    socket.on('data', (chunk) => {
        chunks.push(chunk);
        size += chunk.length;
        if (size < wanted) return;
        let bytes = chunks.length === 1 ? chunks[0] : Buffer.concat(chunks);
        for (;;) {
            wanted = PREFIX;
            if (bytes.length < wanted) break;
            const head = bytes.readUInt32LE(0);
            wanted = PREFIX + head + bytes.readUInt32LE(4);
            if (bytes.length < wanted) break;
            handle(JSON.parse(bytes.toString('utf8', PREFIX, PREFIX + head)), bytes.subarray(PREFIX + head, wanted));
            bytes = bytes.subarray(wanted);
        }
        chunks = bytes.length ? [bytes] : [];
        size = bytes.length;
    });
    socket.on('end', closed);
    socket.on('error', closed);
}
