import { readFile } from 'node:fs/promises';
import type pg from 'pg';
import { makePool } from '../../src/postgres/pool.ts';
import { reconcile } from '../../src/audit/reconciliation/reconcile.ts';
import type { Reconciled, Scope } from '../../src/audit/reconciliation/reconcile.ts';
import { value } from './actors.ts';
import type { TestDatabase } from './database.ts';
import { insertSchedule } from './factory.ts';
import { makeTestLog } from './log.ts';
import { become } from './roles.ts';
import { findings, sealAll } from './sealed_trail.ts';
import { breakFlag, mendFlag } from './trail.ts';
import type { TrailEvent } from './trail.ts';

export const ALICE = { userId: 'alice', email: 'alice@example.com', requestId: 'request-1' };

/** Reconciles as the worker does, by its login. */
export async function reconcileAs(database: TestDatabase, scope: Scope): Promise<Reconciled> {
  const { log } = makeTestLog();
  const pool = makePool(database.workerUrl, { name: 'halyard test', max: 1, log });
  try {
    return await reconcile({ pool, scope, stopping: new AbortController().signal });
  } finally {
    await pool.end();
  }
}

/** Seals what is queued, and says what is wrong with the trail: what audit.verify finds, and transitions without exactly one event. */
export async function problemsOf(client: pg.ClientBase): Promise<unknown[]> {
  await sealAll(client);
  const { rows } = await client.query(
    `with counted as (
       select s.id, v.revision
       from app_public.feature_flag_schedules s, generate_series(1, s.revision) as v (revision)
       union all
       select f.id, v.revision from app_public.feature_flags f, generate_series(1, f.revision) as v (revision)
     ), told as (
       select case when e.event_type like 'feature%' then e.flag_id else e.schedule_id end as id, e.revision, count(*)
       from audit.events e
       group by 1, 2
     )
     select *
     from counted c
     full join told t on t.id = c.id and t.revision = c.revision
     where t.count is distinct from 1
       or c.id is null and not exists (
         select from audit.events e where e.event_type like '%.deleted' and t.id in (e.schedule_id, e.flag_id))`,
  );
  return [...(await findings(client)), ...(rows as unknown[])];
}

/** Runs all fixtures again, as a migration does: what mends functions that somebody broke. */
export async function rerunFixtures(client: pg.ClientBase): Promise<void> {
  const folder = new URL('../../migrations/fixtures/', import.meta.url);
  const all = await readFile(new URL('all.sql', folder), 'utf8');
  for (const [, name = ''] of all.matchAll(/^--!include (\S+)$/gm))
    await client.query(await readFile(new URL(name, folder), 'utf8'));
}

/** One statement of an admin's, committed. */
async function asAdmin<T>(client: pg.ClientBase, sql: string, parameters: unknown[]): Promise<T> {
  await client.query('begin');
  await become(client, 'admin', ALICE);
  const result = await value<T>(client, sql, parameters);
  await client.query('commit');
  return result;
}

/**
 * Every kind of event that a flag and its schedules can have, each change in a transaction of its own: an admin's, the
 * worker's or typed by hand.
 */
export async function tellStory(client: pg.ClientBase, flagKey: string): Promise<void> {
  const flagId = await asAdmin<string>(
    client,
    'insert into app_public.feature_flags (flag_key) values ($1) returning id',
    [flagKey],
  );
  await asAdmin(
    client,
    'update app_public.feature_flags set rollout_percentage = 20 where id = $1 returning id',
    [flagId],
  );
  const planned = await asAdmin<string>(
    client,
    `select id from app_public.schedule_flag_change($1, 'production', now() + interval '1 hour', '{"enabled": true}')`,
    [flagKey],
  );
  await asAdmin(
    client,
    `select id from app_public.reschedule_flag_change($1, now() + interval '2 hours')`,
    [planned],
  );
  await asAdmin(client, `select id from app_public.cancel_flag_schedule($1, 'not now')`, [planned]);

  const failing = await insertSchedule(client, flagId, { dueIn: '-1 second', max_attempts: 1 });
  await breakFlag(client, flagKey);
  await client.query('select app_private.apply_due()');
  await mendFlag(client);
  await asAdmin(client, 'select id from app_public.retry_flag_schedule($1)', [failing.id]);
  await client.query('select app_private.apply_due()');
  const removed = await insertSchedule(client, flagId);
  await client.query('delete from app_public.feature_flag_schedules where id = $1', [removed.id]);
}

/** A story's events in their order, without what can't be the same in two stories: ids and instants. */
export async function toldStory(
  client: pg.ClientBase,
  flagKey: string,
): Promise<Record<string, unknown>[]> {
  const { rows } = await client.query<TrailEvent>(
    'select * from audit.events where flag_key = $1 order by occurred_at, schedule_id, revision',
    [flagKey],
  );
  return rows.map(({ event_type, reconciled, payload }) => {
    const text = payload
      .replaceAll(/"\d{4}-\d\d-\d\dT[\d:.]+Z"/g, '"T"')
      .replaceAll(/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, 'ID')
      .replaceAll(/"latenessMs": \d+/g, '"latenessMs": 0')
      .replace('"reconciled": true, ', '')
      .replaceAll(flagKey, 'KEY');
    return { type: event_type, reconciled, text: JSON.parse(text) as unknown };
  });
}
