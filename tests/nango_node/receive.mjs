// node receive.mjs HOST: a program as Nango's guide shows it. A webhook arrives and is verified, what has changed is read
// up to the last page, and the cursor is kept. Prints the port it listens on, then a line of JSON for each webhook.
import { createServer } from 'node:http';
import { Nango } from '@nangohq/node';

const nango = new Nango({
    host: process.argv[2],
    secretKey: process.env.NANGO_SECRET_KEY,
    webhookSigningKey: process.env.NANGO_WEBHOOK_SIGNING_KEY,
});
const cursors = new Map();

const server = createServer(async (request, response) => {
    let text = '';
    for await (const piece of request.setEncoding('utf8')) {
        text += piece;
    }
    const verified = nango.verifyIncomingWebhookRequest(text, request.headers);
    const old = nango.verifyWebhookSignature(request.headers['x-nango-signature'], JSON.parse(text));
    response.writeHead(verified ? 200 : 401).end();
    const webhook = JSON.parse(text);
    const changed = verified && webhook.type === 'sync' && webhook.success ? await read(webhook) : [];
    console.log(JSON.stringify({ verified, old, webhook, delivery: request.headers['x-nango-delivery-id'], changed }));
});

async function read({ providerConfigKey, connectionId, model, syncVariant, modifiedAfter }) {
    const whose = { providerConfigKey, connectionId, model, variant: syncVariant, limit: 2 };
    const key = JSON.stringify(whose);
    const changed = [];
    for (;;) {
        const cursor = cursors.get(key);
        const page = await nango.listRecords({ ...whose, ...(cursor ? { cursor } : { modifiedAfter }) });
        for (const record of page.records) {
            changed.push([record.id, record._nango_metadata.last_action]);
            cursors.set(key, record._nango_metadata.cursor);
        }
        if (!page.next_cursor) {
            return changed;
        }
    }
}

server.listen(0, '127.0.0.1', () => console.log(server.address().port));
