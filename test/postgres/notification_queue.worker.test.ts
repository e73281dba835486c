import pg from 'pg';
import { pino } from 'pino';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { startEmbeddedPostgres } from '../../src/postgres/embedded/postgres.ts';
import type { EmbeddedPostgres } from '../../src/postgres/embedded/postgres.ts';
import { makeListener } from '../../src/postgres/listener.ts';
import type { ListenerOptions } from '../../src/postgres/listener.ts';
import { withDatabase } from '../../src/postgres/setup.ts';
import { value } from '../support/actors.ts';
import { withClient } from '../support/database.ts';
import type { TestDatabase } from '../support/database.ts';
import { insertFlag } from '../support/factory.ts';
import { makeTestLog } from '../support/log.ts';
import type { LogLine } from '../support/log.ts';
import { loginsTo, makeMigrated } from '../support/migrated.ts';
import { makeDataDir, removeDataDir } from '../support/postgres_server.ts';
import { startTestWorker } from '../support/worker.ts';

// A server of its own, because a full queue stops all who notify on a server, and because the queue must be small.
let server: EmbeddedPostgres;
let dataDir: string;
let database: TestDatabase;

beforeAll(async () => {
  dataDir = await makeDataDir();
  const log = pino({ level: 'silent' });
  const settings = { fsync: 'off', synchronous_commit: 'off', max_notify_queue_pages: '64' };
  server = await startEmbeddedPostgres({ dataDir, log, settings });
  const logins = loginsTo(server.superuserUrl, 'test', 'halyard');
  await makeMigrated(server.superuserUrl, logins);
  const rootUrl = withDatabase(server.superuserUrl, 'halyard');
  database = { name: 'halyard', rootUrl, ...logins, drop: () => Promise.resolve() };
});

afterAll(async () => {
  await server.stop();
  await removeDataDir(dataDir, server.dataDir);
});

const TIMES = { heartbeat: { everyMs: 20, deadlineMs: 3_000 }, queueFullMs: 200 };

/** A listener as the API's, closed after the test. */
async function startListener(options: Partial<ListenerOptions> = {}) {
  const heard: string[] = [];
  const { log, lines } = makeTestLog();
  const listener = makeListener({
    url: database.authenticatorUrl,
    channel: 'halyard_audit',
    name: 'halyard-api-listener',
    onNotification: (payload) => heard.push(payload) > 0,
    onConnect: () => undefined,
    log,
    ...TIMES,
    ...options,
  });
  onTestFinished(() => listener.close());
  await listener.start();
  return { heard, lines };
}

const usage = () =>
  withClient(database.ownerUrl, (client) =>
    value<number>(client, 'select pg_notification_queue_usage()'),
  );

/** One transaction that notifies more than the queue holds. */
async function flood(): Promise<void> {
  await withClient(database.ownerUrl, async (client) => {
    const notify = client.query(
      `select pg_notify('noise', n || repeat(' ', 7900)) from generate_series(1, 100) as n`,
    );
    await expect(notify).rejects.toMatchObject({ code: '54000' });
  });
}

const reconnects = (lines: readonly LogLine[]) =>
  lines.filter(({ err }) => String((err as Error | undefined)?.message).includes('queue'));

test('a transaction that notifies more than the queue holds stops nobody for long', async () => {
  const { heard, lines } = await startListener();
  const { worker, lines: workerLines } = await startTestWorker(database, { listening: TIMES });
  await flood();
  await expect.poll(usage, { timeout: 20_000 }).toBe(0);
  // On a busy machine one may try again, and one that lost its connection for another reason has nothing to do.
  const said = [...reconnects(lines), ...reconnects(workerLines)];
  expect(new Set(said.map(({ level }) => level))).toEqual(new Set(['warn']));
  await expect.poll(() => worker.healthy(), { timeout: 15_000 }).toBe(true);

  // Again until it is heard: what is notified while the listener connects is lost.
  await withClient(database.ownerUrl, (client) =>
    expect
      .poll(
        async () => {
          await insertFlag(client);
          return heard.length;
        },
        { timeout: 15_000, interval: 200 },
      )
      .toBeGreaterThan(0),
  );
  // graphile-worker listens again too.
  await withClient(database.rootUrl, (client) =>
    expect
      .poll(
        async () => {
          const { rows } = await client.query(
            `select from pg_stat_activity where query like 'listen "jobs:insert"%' and state = 'idle'`,
          );
          return rows.length;
        },
        { timeout: 15_000 },
      )
      .toBe(1),
  );
});

test('a session that stands in a transaction fills the queue: reconnecting is tried ever more seldom', async () => {
  const stuck = new pg.Client({ connectionString: database.ownerUrl });
  await stuck.connect();
  onTestFinished(() => stuck.end());
  await stuck.query('listen noise');
  await stuck.query('begin');
  await stuck.query('select 1');
  const { lines } = await startListener();
  await flood();
  await expect.poll(() => reconnects(lines).length, { timeout: 20_000 }).toBe(3);
  const times = reconnects(lines).map(({ time }) => Date.parse(String(time)));
  const pauses = times.slice(1).map((time, i) => time - (times[i] ?? 0));
  expect(pauses[0]).toBeGreaterThanOrEqual(2 * TIMES.queueFullMs);
  expect(pauses[1]).toBeGreaterThanOrEqual(4 * TIMES.queueFullMs);

  await stuck.query('rollback');
  await stuck.query('unlisten *');
  await expect.poll(usage, { timeout: 20_000 }).toBe(0);
});
