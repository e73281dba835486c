import { Registry } from 'prom-client';
import { expect, onTestFinished, test } from 'vitest';
import { makeCloudWatchServer } from '../../support/cloudwatch_server.ts';
import type { CloudWatchServer } from '../../support/cloudwatch_server.ts';
import { GROUP } from '../../support/cloudwatch_sink.ts';
import { cloneDatabase, withClient } from '../../support/database.ts';
import type { TestDatabase } from '../../support/database.ts';
import type { LogLine } from '../../support/log.ts';
import {
  accept,
  ambiguities,
  ask,
  changeFlags,
  compare,
  copyOf,
  delivered,
  DESTINATION,
  makeLoss,
  startCloudWatchWorker,
} from '../../support/restored.ts';
import { sealAll } from '../../support/sealed_trail.ts';
import { insertDue, startTestWorker, useFreshDatabase } from '../../support/worker.ts';

const AHEAD = 'a destination has audit events of this trail that the database lacks';
const saidAhead = (lines: readonly LogLine[]) =>
  lines.filter(({ level, msg }) => level === 'error' && String(msg).startsWith(AHEAD));
const isSeal = (message: string) => message.includes('"audit.sealed"');
const numbered = (database: TestDatabase) =>
  ask<number>(database, 'select max(seq)::int from audit.ledger');

/** 900 changes with 2 KB each: their page is more than a request, and its seal is in the last one. */
function changeMuch(database: TestDatabase, text: string): Promise<unknown> {
  return withClient(database.ownerUrl, (client) =>
    client.query(
      `insert into app_public.feature_flags (flag_key, description)
       select 'big-' || i, repeat($1, 2000) from generate_series(1, 900) as i
       on conflict (environment, flag_key) do update set description = excluded.description`,
      [text],
    ),
  );
}

/** A database whose last page has arrived in part, without its seal, and a snapshot from before the page. */
async function makeHalfPage(): Promise<{
  server: CloudWatchServer;
  lost: TestDatabase;
  restored: TestDatabase;
}> {
  const server = await makeCloudWatchServer();
  onTestFinished(() => server.close());
  const lost = await useFreshDatabase();
  await changeFlags(lost, 10);
  const before = await startCloudWatchWorker(server, lost);
  await delivered(lost, 5);
  await before.worker.stop();
  const restored = await cloneDatabase(lost.name);
  onTestFinished(() => restored.drop());
  await changeMuch(lost, 'a');
  // The first request of the page is stored and its answer is lost; those after it are refused.
  server.failNext('reset', 1, 'PutLogEvents');
  server.failNext('denied', 100, 'PutLogEvents');
  const dying = await startCloudWatchWorker(server, lost);
  await expect.poll(() => copyOf(server).length, { timeout: 20_000 }).toBeGreaterThan(6);
  await dying.worker.stop();
  expect(copyOf(server).filter(isSeal)).toHaveLength(1);
  server.forgetFailures();
  return { server, lost, restored };
}

test('a page that arrived without its seal is found by a restored database, and its loss accepted', async () => {
  const { server, restored } = await makeHalfPage();
  const before = copyOf(server).length;
  await changeMuch(restored, 'b');
  const { worker, lines } = await startCloudWatchWorker(server, restored);
  await expect.poll(() => saidAhead(lines), { timeout: 20_000 }).toHaveLength(1);
  expect(copyOf(server)).toHaveLength(before);
  expect(await numbered(restored)).toBe(5);
  const report = await accept(restored, 'skip');
  const lastSeq = before - 1;
  expect(report.destinations).toMatchObject([{ destination: DESTINATION, lastSeq }]);
  expect(report.destinations).not.toHaveProperty('0.seal');
  await delivered(restored, 906);
  await worker.stop();
  expect(ambiguities(server)).toEqual([]);
  // The next worker finds the same page, and knows it.
  const next = await startCloudWatchWorker(server, restored);
  await changeFlags(restored, 40);
  await delivered(restored, 911);
  expect(saidAhead(next.lines)).toEqual([]);
  expect(await compare(restored, copyOf(server))).toMatchObject({
    problems: [],
    lost: [{ seals: null, events: { first: 6, last: lastSeq } }],
  });
});

test('after a crash the same database sends such a page again, and finds nothing', async () => {
  const { server, lost } = await makeHalfPage();
  const { lines } = await startCloudWatchWorker(server, lost);
  await delivered(lost, 905);
  expect(saidAhead(lines)).toEqual([]);
  expect(ambiguities(server)).toEqual([]);
});

test.for(['before', 'after'])(
  'what a worker numbered that can’t ask isn’t sent to a destination that has these numbers, where it is asked %s the loss is accepted',
  async (when) => {
    const { server, restored } = await makeLoss();
    await changeFlags(restored, 30);
    const blind = await startTestWorker(restored);
    await expect.poll(() => numbered(restored), { timeout: 20_000 }).toBeGreaterThan(10);
    await blind.worker.stop();
    const last = await numbered(restored);
    const early = when === 'before' ? await startCloudWatchWorker(server, restored) : null;
    const report = await accept(restored, 'apply');
    if (early !== null)
      expect(report.destinations).toEqual([
        expect.objectContaining({ destination: DESTINATION, notSentFrom: 7 }),
      ]);
    await changeFlags(restored, 31);
    const { lines } = early ?? (await startCloudWatchWorker(server, restored));
    const cursor = `select coalesce(max(last_seq), 0)::int from audit.cursors where destination = '${DESTINATION}'`;
    await expect
      .poll(() => ask<number>(restored, cursor), { timeout: 20_000 })
      .toBeGreaterThan(last + 5);
    expect(ambiguities(server)).toEqual([]);
    expect(saidAhead(lines)).toHaveLength(early === null ? 0 : 1);
    const notSent = lines.filter(({ msg }) => String(msg).startsWith('these events are not sent'));
    expect(notSent).toMatchObject(early === null ? [{ after: '6', to: String(last) }] : []);
  },
);

test('an event that no seal follows is known by its text, too: both histories may have made the same revision', async () => {
  const database = await useFreshDatabase();
  await withClient(database.ownerUrl, async (client) => {
    await insertDue(client, { count: 1, dueIn: '1 hour' });
    await sealAll(client);
  });
  const look = (leaf: string) =>
    ask(
      database,
      `select obstacle from app_private.delivery_state('cloudwatch:x', (
         select jsonb_build_object('trail', i.trail, 'events', jsonb_build_array(jsonb_build_object(
           'seq', l.seq, 'eventId', l.event_id, 'leaf', ${leaf}, 'at', now())))
         from audit.ledger l, audit.incarnations i order by l.seq desc limit 1))`,
    );
  expect(await look(`encode(l.leaf, 'hex')`)).toBeNull();
  // What stands for an event has no leaf.
  expect(await look('null')).toBeNull();
  // An event that was changed here before it was sent is no other history.
  await withClient(database.rootUrl, async (client) => {
    await client.query('alter table audit.events disable trigger user');
    await client.query(`update audit.events set payload = replace(payload, '"level"', '"Level"')`);
  });
  const changed = `(select encode(app_private.event_leaf(e.payload, l.seq), 'hex') from audit.events e where e.id = l.event_id)`;
  expect(await look(changed)).toBeNull();
  expect(await look(`repeat('ab', 32)`)).toBe('ahead');
});

test('a log group that was deleted is said, and forwarded to', async () => {
  const { server, lost } = await makeLoss();
  server.deleteGroup(GROUP);
  const registry = new Registry();
  const { lines } = await startCloudWatchWorker(server, lost, { registry });
  const warnings = lines.filter(({ level }) => level === 'warn');
  expect(warnings.map(({ msg }) => msg)).toEqual([
    expect.stringContaining('holds nothing of this trail, though it has confirmed events up to 13'),
  ]);
  expect(await registry.metrics()).toContain(
    `halyard_destination_unasked{destination="${DESTINATION}"} 1`,
  );
  await changeFlags(lost, 50);
  await delivered(lost, 18);
  expect(await registry.metrics()).toContain(
    `halyard_destination_unasked{destination="${DESTINATION}"} 0`,
  );
});
