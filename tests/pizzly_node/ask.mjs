// node ask.mjs HOST KEY CONNECTION: what the client gives, as JSON. PIZZLY_SECRET_KEY: the server's secret.
import { Pizzly } from '@nangohq/pizzly-node';

const [, , host, key, connection] = process.argv;
const pizzly = new Pizzly(host, process.env.PIZZLY_SECRET_KEY || '');
const found = {};
try {
  found.token = await pizzly.accessToken(key, connection);
  found.raw = await pizzly.rawTokenResponse(key, connection);
} catch (error) {
  found.error = error.response ? [error.response.status, error.response.data.error] : String(error);
}
console.log(JSON.stringify(found));
