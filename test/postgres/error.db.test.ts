import { createServer, type AddressInfo } from 'node:net';
import pg from 'pg';
import { afterAll, beforeAll, expect, inject, test } from 'vitest';
import { ConnectionError, isConnectionLoss, isPassing, placeOf } from '../../src/postgres/error.ts';

/** Takes connections and says nothing. */
const mute = createServer(() => undefined);
let muteUrl: string;
beforeAll(async () => {
  await new Promise<void>((resolve) => mute.listen(0, '127.0.0.1', resolve));
  muteUrl = `postgres://u:gr8secret@127.0.0.1:${(mute.address() as AddressInfo).port}/absent`;
});
afterAll(() => mute.close());

async function errorOf(work: Promise<unknown>): Promise<unknown> {
  return work.then(
    () => undefined,
    (error: unknown) => error,
  );
}

/** A client with a listener, as each must have one. */
function makeClient(options: pg.ClientConfig): pg.Client {
  const client = new pg.Client(options);
  client.on('error', () => undefined);
  return client;
}

async function cutDuringQuery(): Promise<unknown> {
  const client = makeClient({ connectionString: inject('rootUrl') });
  await client.connect();
  const asked = errorOf(client.query('select pg_sleep(60)'));
  client.connection.stream.destroy();
  return asked;
}

async function askAfterCut(): Promise<unknown> {
  const client = makeClient({ connectionString: inject('rootUrl') });
  await client.connect();
  client.connection.stream.destroy(new Error('of the test'));
  await new Promise((resolve) => client.once('end', resolve));
  return errorOf(client.query('select'));
}

async function askTooLong(): Promise<unknown> {
  const client = makeClient({ connectionString: inject('rootUrl'), query_timeout: 50 });
  await client.connect();
  const error = await errorOf(client.query('select pg_sleep(60)'));
  client.connection.stream.destroy();
  return error;
}

async function terminate(): Promise<unknown> {
  const client = makeClient({ connectionString: inject('rootUrl') });
  await client.connect();
  return errorOf(client.query('select pg_terminate_backend(pg_backend_pid())'));
}

async function waitForFullPool(): Promise<unknown> {
  const pool = new pg.Pool({
    ...{ connectionString: inject('rootUrl'), max: 1, connectionTimeoutMillis: 1_000 },
  });
  const client = await pool.connect();
  const error = await errorOf(pool.connect());
  client.release();
  await pool.end();
  return error;
}

const connectTo = (url: string) =>
  errorOf(makeClient({ connectionString: url, connectionTimeoutMillis: 50 }).connect());
const connectPool = (url: string) =>
  errorOf(new pg.Pool({ connectionString: url, connectionTimeoutMillis: 50 }).connect());

// Most of what pg says has no code: so this holds its messages against those that are known.
test.for<[string, () => Promise<unknown>]>([
  ['a server that does not answer', () => connectTo(muteUrl)],
  ['a server that does not answer a pool', () => connectPool(muteUrl)],
  ['a port without a server', () => connectTo('postgres://127.0.0.1:1/absent')],
  ['a pool without a free connection', waitForFullPool],
  ['a connection that is cut during a query', cutDuringQuery],
  ['a connection that was cut before a query', askAfterCut],
  ['an answer that does not come in time', askTooLong],
  ['a session that an administrator ends', terminate],
])('%s is a connection lost, and may pass', async ([, work]) => {
  const error = await work();
  expect(isConnectionLoss(error), String(error)).toBe(true);
  expect(isPassing(error), String(error)).toBe(true);
});

test('other errors are none', () => {
  for (const error of [new Error('of a task'), new TypeError('of ours'), null, 'text'])
    expect([isConnectionLoss(error), isPassing(error)]).toEqual([false, false]);
});

test('a sentence names the place, every reason, and no login', () => {
  const refused = new AggregateError([new Error('connect A'), new Error('connect B')], '');
  expect(new ConnectionError('postgres://u:gr8secret@db.internal/halyard', refused).message).toBe(
    "The database db.internal:5432/halyard can't be reached: connect A; connect B.",
  );
  expect(placeOf('postgres:///halyard?host=/run/postgresql')).toBe('/run/postgresql:5432/halyard');
});
