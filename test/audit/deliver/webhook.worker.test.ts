import { Registry } from 'prom-client';
import { Webhook } from 'standardwebhooks';
import type pg from 'pg';
import { beforeEach, expect, onTestFinished, test } from 'vitest';
import { makeForwarder } from '../../../src/audit/delivery/forwarder.ts';
import { makePool } from '../../../src/postgres/pool.ts';
import { value } from '../../support/actors.ts';
import { withClient } from '../../support/database.ts';
import type { TestDatabase } from '../../support/database.ts';
import { makeTestLog } from '../../support/log.ts';
import { parseSamples } from '../../support/metrics.ts';
import {
  makeTestWebhook,
  SECRET,
  startWebhookServer,
  status,
} from '../../support/webhook_server.ts';
import type { WebhookServer } from '../../support/webhook_server.ts';
import {
  countByStatus,
  insertDue,
  makeMemorySink,
  parseShipped,
  spawnWorker,
  startTestWorker,
  useFreshDatabase,
} from '../../support/worker.ts';

let database: TestDatabase;
let server: WebhookServer;

beforeEach(async () => {
  database = await useFreshDatabase();
  server = await startWebhookServer();
});

const soon = { timeout: 15_000 };
const never = new AbortController().signal;
const signals = { stopping: never, abort: never };
const asOwner = <T>(work: (client: pg.ClientBase) => Promise<T>) =>
  withClient(database.ownerUrl, work);
const cursors = () =>
  asOwner((client) =>
    value<Record<string, number>>(
      client,
      'select coalesce(jsonb_object_agg(destination, last_seq), $1) from audit.cursors',
      ['{}'],
    ),
  );
const numbers = () => server.posted.map(({ body }) => parseShipped(body).seq);
const seqs = (count: number) => Array.from({ length: count }, (_, i) => i + 1);

/** A worker with two destinations: the webhook, and one in memory that is always up. */
async function startBoth(standstillMs = 60_000) {
  const memory = makeMemorySink();
  const registry = new Registry();
  const { sink } = makeTestWebhook(server);
  const { worker, lines } = await startTestWorker(database, {
    ...{ registry, standstillMs },
    destinations: [
      { destination: 'webhook:test', sink },
      { destination: 'memory', sink: memory },
    ],
  });
  const sample = async (series: string) => parseSamples(await registry.metrics()).get(series);
  return { worker, lines, memory, sample };
}

test('of two destinations one that is down delays neither the other nor schedules, and gets all when it is back', async () => {
  server.answer = status(503, { 'Retry-After': '2' });
  const { worker, memory, sample } = await startBoth();
  await asOwner(async (client) => {
    await insertDue(client, { count: 2, dueIn: '500 ms' });
    await expect.poll(() => countByStatus(client), soon).toStrictEqual({ applied: 2 });
    const taken = () => new Set(memory.taken.map(({ seq }) => seq)).size;
    await expect.poll(taken, soon).toBe(8);
    // The one that is down has a cursor too: a purge waits for it.
    await expect.poll(cursors, soon).toEqual({ 'webhook:test': 0, memory: 8 });
    const obstacle = `select app_private.purge_obstacle('2020-01-01', now() + interval '1 hour')`;
    expect(await value(client, obstacle)).toMatch(/^webhook:test hasn't confirmed/);
  });
  expect(worker.healthy()).toBe(true);
  const down = server.posted.length;
  expect(await sample('halyard_delivery_failures_total{destination="webhook:test"}')).toBe(down);
  expect(await sample('halyard_delivery_failures_total{destination="memory"}')).toBe(0);

  server.answer = status(204);
  await expect.poll(cursors, soon).toEqual({ 'webhook:test': 8, memory: 8 });
  expect(numbers().slice(down)).toEqual(seqs(8));
  for (const { body, headers } of server.posted)
    new Webhook(SECRET).verify(body, headers as Record<string, string>);
});

test('a destination that is gone gets nothing more, and everything else goes on', async () => {
  server.answer = status(410);
  const { worker, lines, memory, sample } = await startBoth(1_000);
  const events = () => memory.taken.filter(({ message }) => !message.includes('"audit.sealed"'));
  await asOwner(async (client) => {
    await insertDue(client, { count: 1, dueIn: '1 day' });
    await expect.poll(() => server.posted.length, soon).toBe(1);
    await expect.poll(() => events().length, soon).toBe(2);
    await insertDue(client, { count: 1, dueIn: '2 seconds' });
    await expect.poll(() => events().length, soon).toBe(6);
  });
  expect(server.posted).toHaveLength(1);
  expect(await sample('halyard_delivery_stopped{destination="webhook:test"}')).toBe(1);
  expect(await sample('halyard_delivery_stopped{destination="memory"}')).toBe(0);
  // Nor does it stand still: all that time its first event has been next.
  const standing = lines.filter(
    ({ msg, destination }) =>
      destination === 'webhook:test' && String(msg).startsWith('forwarding stands still'),
  );
  expect(standing).toEqual([]);
  await expect.poll(() => worker.healthy(), soon).toBe(true);
  const said = lines.filter(({ msg }) => msg === 'nothing is sent to this destination any more');
  expect(said).toMatchObject([{ level: 'error', destination: 'webhook:test' }]);
});

test('an event that is refused is passed over and recorded once, and what records it makes no other', async () => {
  const pool = makePool(database.workerUrl, { name: 'halyard test', log: makeTestLog().log });
  onTestFinished(() => pool.end());
  const { sink } = makeTestWebhook(server);
  const forwarder = makeForwarder({
    ...{ pool, sink, destination: 'webhook:test', log: makeTestLog().log },
  });
  /** Runs it until the cursor stands there, as the loop does, without its pauses. */
  const forwardTo = async (seq: number) => {
    const run = () => forwarder.forward(signals).catch(() => undefined);
    await expect.poll(async () => (await run(), (await cursors())['webhook:test']), soon).toBe(seq);
  };
  const posts = (type: string) =>
    server.posted.filter(({ body }) => parseShipped(body).eventType === type).length;
  const recorded = () =>
    asOwner((client) =>
      client.query<{ level: string; actor_kind: string; metadata: Record<string, unknown> }>(
        `select level, actor_kind, metadata from audit.events where event_type = 'audit.undeliverable'`,
      ),
    );
  await asOwner((client) => insertDue(client, { count: 1, dueIn: '1 day' }));
  server.answer = (response, { body }) =>
    response.writeHead(/audit.undeliverable|flag_schedule/.test(body) ? 422 : 204).end();
  await forwardTo(3);
  expect(posts('flag_schedule.created')).toBe(5);
  expect(posts('audit.undeliverable')).toBe(5);
  const { rows } = await recorded();
  const { eventId } = parseShipped(server.posted[1]?.body ?? '{}');
  const metadata = {
    ...{ destination: 'webhook:test', eventId, seq: 2 },
    ...{ eventType: 'flag_schedule.created', status: 422 },
  };
  expect(rows).toEqual([{ level: 'warning', actor_kind: 'system', metadata }]);

  // As where the process dies before its cursor moves: the event is refused again, and that is recorded already.
  await asOwner((client) =>
    client.query(`update audit.cursors set last_seq = 1 where destination = 'webhook:test'`),
  );
  // Behind it are the event that records it, refused itself, and that of the moved cursor.
  await forwardTo(4);
  expect((await recorded()).rows).toHaveLength(1);
  expect(sink.degraded?.()).toEqual({ skipped: 4 });
});

test('only the holder of the lease records, and only what there is', async () => {
  await asOwner((client) => insertDue(client, { count: 1, dueIn: '1 day' }));
  await withClient(database.workerUrl, async (worker) => {
    await worker.query('select from app_private.seal_batch(10, 0)');
    const { rows: shipped } = await worker.query<{ seq: string; event_id: string }>(
      `select seq, event_id from app_private.undelivered_audit_events('webhook:test')`,
    );
    const token = await value(worker, `select app_private.take_lease($1, 'test', 60000)`, [
      'forward.webhook:test',
    ]);
    const record = (by: unknown, seq: unknown, id: unknown) =>
      value(worker, `select app_private.record_undeliverable('webhook:test', $1, $2, $3, 400)`, [
        by,
        seq,
        id,
      ]);
    const [event, , seal] = shipped;
    expect(await record(1, event?.seq, event?.event_id)).toBe(false);
    await expect(record(token, 2, event?.event_id)).rejects.toMatchObject({ code: '22023' });
    expect(await record(token, event?.seq, event?.event_id)).toBe(true);
    expect(await record(token, seal?.seq, seal?.event_id)).toBe(true);
  });
  const types = await asOwner((client) =>
    client.query<{ type: string }>(
      `select metadata ->> 'eventType' as type from audit.events where event_type = 'audit.undeliverable' order by 1`,
    ),
  );
  expect(types.rows.map(({ type }) => type)).toEqual(['audit.sealed', 'feature_flag.created']);
});

test('a worker process that is killed before its cursor moves sends the same id and body again', async () => {
  const env = {
    ...{ AUDIT_SINK: 'stdout,webhook', WEBHOOK_URL: server.url, WEBHOOK_SECRET: SECRET },
    ...{ WEBHOOK_ALLOW_PRIVATE: 'true', AUDIT_LEASE_MS: '1000' },
  };
  // The receiver has the second event, and its answer never comes.
  server.answer = (response) => {
    if (server.posted.length !== 2) response.writeHead(204).end();
  };
  const killed = await spawnWorker(database, env);
  await asOwner((client) => insertDue(client, { count: 2, dueIn: '1 day' }));
  await expect.poll(() => server.posted.length, soon).toBe(2);
  await killed.end('SIGKILL');
  const { stdout, stderr, end } = await spawnWorker(database, env);
  await expect.poll(() => new Set(numbers()).size, soon).toBe(4);
  expect(await end('SIGTERM')).toBe(0);

  const [, before] = server.posted;
  const again = server.posted.slice(2).find(({ body }) => body === before?.body);
  expect(again?.headers['webhook-id']).toBe(before?.headers['webhook-id']);
  const lines = [...killed.stdout, ...stdout].filter((line) => !line.includes('"audit.sealed"'));
  expect(new Set(server.posted.map(({ body }) => body))).toEqual(new Set(lines));
  expect([...killed.stderr, ...stderr].join('\n')).not.toMatch(/whsec_|\/hook/);
});
