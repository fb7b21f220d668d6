// node call.mjs HOST: calls Nango's client as the JSON on stdin says, [[method, ...arguments], ...]; prints what it gives.
import { readFileSync } from 'node:fs';
import { Nango } from '@nangohq/node';

const nango = new Nango({ host: process.argv[2], secretKey: process.env.NANGO_SECRET_KEY });

// Each page of records, as a program reads them that follows the cursor to the end.
nango.listAllRecords = async (config) => {
    const pages = [];
    let cursor = config.cursor;
    do {
        pages.push(await nango.listRecords({ ...config, cursor }));
        cursor = pages.at(-1).next_cursor;
    } while (cursor);
    return pages;
};

// A copy of a dataset as a program keeps it that follows the cursor: a map by record.id, without what was deleted.
nango.followRecords = async (config, entries = []) => {
    const copy = new Map(entries);
    let { cursor } = config;
    for (let more = true; more; ) {
        const page = await nango.listRecords({ ...config, cursor });
        for (const { _nango_metadata: metadata, ...record } of page.records) {
            cursor = metadata.cursor;
            if (metadata.last_action === 'DELETED') {
                copy.delete(record.id);
            } else if (metadata.pruned_at === null) {
                copy.set(record.id, record);
            }
        }
        more = page.next_cursor !== null;
    }
    return { entries: [...copy], cursor };
};

const found = [];
for (const [method, ...given] of JSON.parse(readFileSync(0, 'utf8'))) {
    try {
        const answer = await nango[method](...given);
        // Some methods give axios's whole response.
        found.push(answer?.config && answer?.headers ? { status: answer.status, data: answer.data } : answer);
    } catch (error) {
        found.push({ error: error.response ? [error.response.status, error.response.data.error.code] : String(error) });
    }
}
console.log(JSON.stringify(found));
