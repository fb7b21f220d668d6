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
