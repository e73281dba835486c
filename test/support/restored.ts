import { expect, onTestFinished } from 'vitest';
import { checkAnchors } from '../../src/audit/verification/anchors.ts';
import type { AnchorReport } from '../../src/audit/verification/anchors.ts';
import { makePool } from '../../src/postgres/pool.ts';
import { value } from './actors.ts';
import { makeCloudWatchServer } from './cloudwatch_server.ts';
import type { CloudWatchServer } from './cloudwatch_server.ts';
import { GROUP, makeTestSink, STREAM } from './cloudwatch_sink.ts';
import { cloneDatabase, withClient } from './database.ts';
import type { TestDatabase } from './database.ts';
import { makeTestLog } from './log.ts';
import { startTestWorker } from './worker.ts';
import type { Shipped, TestWorker } from './worker.ts';

export const DESTINATION = `cloudwatch:${GROUP}`;

/** A database and an older snapshot of it, and the destination that has all of the first. */
export interface Loss {
  readonly server: CloudWatchServer;
  /** What went on after the snapshot, and is lost. */
  readonly lost: TestDatabase;
  /** The snapshot. In it the schedule is pending and overdue that the lost database has applied. */
  readonly restored: TestDatabase;
  readonly scheduleId: string;
}

/** A worker that forwards to the loopback CloudWatch Logs. */
export function startCloudWatchWorker(
  server: CloudWatchServer,
  database: TestDatabase,
  options: Parameters<typeof startTestWorker>[1] = {},
): Promise<TestWorker> {
  const env = { AUDIT_SINK: 'cloudwatch', AUDIT_LOG_GROUP: GROUP, AUDIT_LOG_STREAM: STREAM };
  const { sink } = makeTestSink(server);
  return startTestWorker(database, { sink, env, ...options });
}

/** Changes five flags, each once more than before: the same rows in both histories, with the same revisions. */
export async function changeFlags(database: TestDatabase, percentage: number): Promise<void> {
  await withClient(database.ownerUrl, (client) =>
    client.query(
      `insert into app_public.feature_flags (flag_key, rollout_percentage)
       select 'flag-' || i, $1 from generate_series(1, 5) as i
       on conflict (environment, flag_key) do update set rollout_percentage = excluded.rollout_percentage`,
      [percentage],
    ),
  );
}

/** What each loss of this process is a copy of: the names of the two databases, and what the destination holds. */
interface LossTemplate {
  readonly lost: string;
  readonly restored: string;
  readonly events: ReturnType<CloudWatchServer['stored']>;
  readonly scheduleId: string;
}

let template: Promise<LossTemplate> | undefined;

/** Loses what was written after a snapshot: five changes and an applied schedule. */
export async function makeLoss(): Promise<Loss> {
  const { lost, restored, events, scheduleId } = await (template ??= makeTemplate());
  const server = await makeCloudWatchServer();
  onTestFinished(() => server.close());
  server.createStream(GROUP, STREAM, { events });
  const clone = async (name: string) => {
    const database = await cloneDatabase(name);
    onTestFinished(() => database.drop());
    return database;
  };
  return { server, lost: await clone(lost), restored: await clone(restored), scheduleId };
}

/** @param dueIn seconds; where a busy machine applies the schedule before the snapshot, it is all done again with more of them */
async function makeTemplate(dueIn = 1): Promise<LossTemplate> {
  const server = await makeCloudWatchServer();
  const lost = await cloneDatabase();
  await changeFlags(lost, 10);
  const scheduleId = await withClient(lost.ownerUrl, (client) =>
    value<string>(
      client,
      `insert into app_public.feature_flag_schedules (flag_id, scheduled_at, updates)
       select id, now() + $1 * interval '1 second', '{"enabled": true}' from app_public.feature_flags where flag_key = 'flag-1'
       returning id`,
      [dueIn],
    ),
  );
  const before = await startCloudWatchWorker(server, lost);
  await delivered(lost, 6);
  await before.worker.stop();
  const pending = `select status = 'pending' from app_public.feature_flag_schedules`;
  if (!(await ask(lost, pending))) {
    await Promise.all([server.close(), lost.drop()]);
    return makeTemplate(dueIn * 4);
  }
  const restored = await cloneDatabase(lost.name);

  const after = await startCloudWatchWorker(server, lost);
  await changeFlags(lost, 20);
  // The schedule's two events among them.
  await delivered(lost, 13);
  await after.worker.stop();
  const events = [...server.stored(GROUP, STREAM)];
  await server.close();
  return { lost: lost.name, restored: restored.name, events, scheduleId };
}

/** Waits until the destination has confirmed so many events. */
export async function delivered(database: TestDatabase, seq: number): Promise<void> {
  await withClient(database.rootUrl, (client) =>
    expect
      .poll(
        () => value<number>(client, 'select coalesce(max(last_seq), 0)::int from audit.cursors'),
        { timeout: 20_000 },
      )
      .toBeGreaterThanOrEqual(seq),
  );
}

/** One query's single value, as the superuser. */
export function ask<T>(database: TestDatabase, query: string, values: unknown[] = []): Promise<T> {
  return withClient(database.rootUrl, (client) => value<T>(client, query, values));
}

/** Accepts the loss, as `halyard restore accept` does. */
export async function accept(
  database: TestDatabase,
  overdue: 'apply' | 'skip' | null,
  asCopy = false,
): Promise<Record<string, unknown>> {
  return withClient(database.ownerUrl, (client) =>
    value(client, 'select app_private.accept_restore($1, $2, $3)', [
      'a disk was lost',
      overdue,
      asCopy,
    ]),
  );
}

/** Everything that the destination holds, in the order of arrival. */
export function copyOf(server: CloudWatchServer): string[] {
  return server.stored(GROUP, STREAM).map(({ message }) => message);
}

/** The event ids, and the numbers of each incarnation, that the destination has with more than one text. */
export function ambiguities(server: CloudWatchServer): string[] {
  const texts = new Map<string, Set<string>>();
  const add = (key: string, text: string) =>
    texts.set(key, (texts.get(key) ?? new Set()).add(text));
  let unsealed: { seq: number; text: string }[] = [];
  for (const text of copyOf(server)) {
    const { eventType, eventId, seq, metadata } = JSON.parse(text) as Shipped;
    add(eventId, text);
    if (eventType !== 'audit.sealed') unsealed.push({ seq, text });
    else {
      // A lost page that arrived without its seal may have the same numbers: the seal's own events are the last ones before it.
      const own = new Map(unsealed.map((event) => [event.seq, event.text]));
      for (const [number, event] of own) add(`${String(metadata.incarnation)} ${number}`, event);
      unsealed = [];
    }
  }
  return [...texts].filter(([, all]) => all.size > 1).map(([key]) => key);
}

/** Holds a copy against a database, as `halyard audit verify --anchors` does. */
export async function compare(
  database: TestDatabase,
  lines: readonly string[],
): Promise<AnchorReport> {
  const { log } = makeTestLog();
  const settings = { role: 'halyard_auditor' };
  const pool = makePool(database.rootUrl, { name: 'halyard test', settings, log });
  onTestFinished(() => pool.end());
  return checkAnchors(pool, lines);
}
