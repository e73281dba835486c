import { readFile } from 'node:fs/promises';
import type pg from 'pg';
import { makePool } from '../../src/postgres/pool.ts';
import { queryOf } from '../../src/audit/delivery/outbox.ts';
import { reconcile } from '../../src/audit/reconciliation/reconcile.ts';
import type { Reconciled, Scope } from '../../src/audit/reconciliation/reconcile.ts';
import { value } from './actors.ts';
import { withClient } from './database.ts';
import type { TestDatabase } from './database.ts';
import { insertSchedule } from './factory.ts';
import { makeTestLog } from './log.ts';
import { become } from './roles.ts';
import { findings, sealAll } from './sealed_trail.ts';
import { breakFlag, mendFlag } from './trail.ts';
import type { TrailEvent } from './trail.ts';

export const ALICE = { userId: 'alice', email: 'alice@example.com', requestId: 'request-1' };

/** A session that is the owner, and can become an admin of the API's. */
export async function withOwner<T>(
  database: TestDatabase,
  work: (client: pg.Client) => Promise<T>,
): Promise<T> {
  return withClient(database.rootUrl, async (client) => {
    await client.query('set role halyard_owner');
    return work(client);
  });
}

/** Changes made while the trail's triggers are disabled: events and dead letters are lost, rows stay. */
export async function withoutAudit<T>(client: pg.ClientBase, work: () => Promise<T>): Promise<T> {
  await setTriggers(client, 'disable');
  const result = await work();
  await setTriggers(client, 'enable always');
  return result;
}

async function setTriggers(client: pg.ClientBase, action: string): Promise<void> {
  for (const table of ['environments', 'feature_flags', 'feature_flag_schedules', 'plans'])
    for (const change of ['insert', 'update', 'delete'])
      await client.query(`alter table app_public.${table} ${action} trigger _900_audit_${change}`);
}

/** Reconciles as the command does, by the owner's login. */
export async function reconcileAs(database: TestDatabase, scope: Scope): Promise<Reconciled> {
  const { log } = makeTestLog();
  const pool = makePool(database.ownerUrl, { name: 'halyard test', max: 1, log });
  try {
    return await reconcile(queryOf(pool), scope, new AbortController().signal);
  } finally {
    await pool.end();
  }
}

/**
 * Seals what is queued, and returns what is wrong with the trail: what audit.verify finds, and revisions without exactly one
 * event, be it their own or a `*.reconciled` event that names them.
 */
export async function problemsOf(client: pg.ClientBase): Promise<unknown[]> {
  await sealAll(client);
  const { rows } = await client.query(
    `with counted as (
       select s.id, v.revision
       from app_public.feature_flag_schedules s, generate_series(1, s.revision) as v (revision)
       union all
       select f.id, v.revision from app_public.feature_flags f, generate_series(1, f.revision) as v (revision)
       union all
       select p.id, v.revision from app_public.plans p, generate_series(1, p.revision) as v (revision)
     ), recorded as (
       select
         case
           when starts_with(e.event_type, 'flag_plan.') then (e.metadata ->> 'planId')::uuid
           when e.event_type like 'feature%' then e.flag_id
           else e.schedule_id
         end as id, v.revision, count(*)
       from audit.events e
       cross join jsonb_array_elements(
         case when e.event_type like '%.reconciled' then e.metadata -> 'revisions' else to_jsonb(array[e.revision]) end) as j (revision)
       cross join lateral (select j.revision::bigint) as v (revision)
       where e.event_type <> 'audit.gap' and not starts_with(e.event_type, 'setting.')
         -- A plan's schedules are made again with their ids when it is edited: what counts is the last of each.
         and not exists (
           select from audit.events n
           where n.schedule_id = e.schedule_id and n.event_type = 'flag_schedule.created' and n.occurred_at > e.occurred_at
             and starts_with(e.event_type, 'flag_schedule.'))
       group by 1, 2
     )
     select *
     from counted c
     full join recorded t on t.id = c.id and t.revision = c.revision
     where t.count is distinct from 1
       or c.id is null and not exists (
         select from audit.events e
         where (e.event_type like '%.deleted' or e.event_type = 'audit.gap') and t.id in (e.schedule_id, e.flag_id, (e.metadata ->> 'planId')::uuid))`,
  );
  return [...(await findings(client)), ...(rows as unknown[])];
}

/** Runs all fixtures again, as a migration does: which restores functions that a test broke. */
export async function rerunFixtures(client: pg.ClientBase): Promise<void> {
  const folder = new URL('../../migrations/fixtures/', import.meta.url);
  const all = await readFile(new URL('all.sql', folder), 'utf8');
  for (const [, name = ''] of all.matchAll(/^--!include (\S+)$/gm))
    await client.query(await readFile(new URL(name, folder), 'utf8'));
}

/** One statement of an admin's, committed; `reason` as the API sets it. */
export async function asAdmin<T>(
  client: pg.ClientBase,
  sql: string,
  parameters: unknown[],
  reason = '',
): Promise<T> {
  await client.query('begin');
  await become(client, 'admin', { ...ALICE, reason });
  const result = await value<T>(client, sql, parameters);
  await client.query('commit');
  return result;
}

/**
 * Every kind of event that a flag and its schedules can have, each change in a transaction of its own: an admin's, the
 * worker's or the owner's at a prompt.
 */
export async function runLifecycle(client: pg.ClientBase, flagKey: string): Promise<void> {
  const flagId = await asAdmin<string>(
    client,
    'insert into app_public.feature_flags (flag_key) values ($1) returning id',
    [flagKey],
    'a new one',
  );
  await asAdmin(
    client,
    'update app_public.feature_flags set rollout_percentage = 20 where id = $1 returning id',
    [flagId],
    'for a few',
  );
  const planned = await asAdmin<string>(
    client,
    `select id from app_public.schedule_flag_change($1, 'production', now() + interval '1 hour', '{"enabled": true}', 'the launch')`,
    [flagKey],
  );
  for (const reason of ['', 'the launch', 'the fair'])
    await asAdmin(
      client,
      `select id from app_public.reschedule_flag_change($1, clock_timestamp() + interval '2 hours', $2)`,
      [planned, reason],
      reason,
    );
  await asAdmin(client, `select id from app_public.cancel_flag_schedule($1, 'not now')`, [planned]);

  const failing = await insertSchedule(client, flagId, { dueIn: '-1 second', max_attempts: 1 });
  await breakFlag(client, flagKey);
  await client.query('select app_private.apply_due()');
  await mendFlag(client);
  await asAdmin(
    client,
    `select id from app_public.retry_flag_schedule($1, 'mended')`,
    [failing.id],
    'mended',
  );
  await client.query('set session authorization halyard_worker');
  await client.query('select app_private.apply_due()');
  await client.query('set session authorization default; set role halyard_owner');
  const removed = await insertSchedule(client, flagId);
  await client.query('delete from app_public.feature_flag_schedules where id = $1', [removed.id]);
}

/** An event of a lifecycle, comparable with the same one of another. */
export interface LifecycleEvent {
  readonly type: string;
  readonly reconciled: boolean;
  readonly text: Record<string, unknown>;
}

/** A lifecycle's events in their order, without what can't be the same in two of them: ids and instants. */
export async function lifecycleEvents(
  client: pg.ClientBase,
  flagKey: string,
): Promise<LifecycleEvent[]> {
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
    return { type: event_type, reconciled, text: JSON.parse(text) as Record<string, unknown> };
  });
}
