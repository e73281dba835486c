import type pg from 'pg';
import { insertFlag, insertSchedule } from './factory.ts';
import { deliverAll, retain, writeOldMonths } from './old_trail.ts';
import { failPoint } from './plans.ts';
import { asAdmin as asAdminOf } from './reconcile.ts';
import { become } from './roles.ts';
import { pastTriggers } from './row_problems.ts';
import { sealAll } from './sealed_trail.ts';
import { breakFlag, mendFlag } from './trail.ts';

/** An event of the trail, with its text as it is shipped. */
export interface WrittenEvent {
  readonly event_type: string;
  readonly level: string;
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly message: string;
}

/**
 * Writes events of every type, each as the product does, and with all keys that a type can have.
 *
 * @param client an administrator's, in a database that nothing has happened in
 */
export async function writeEveryType(client: pg.Client): Promise<readonly WrittenEvent[]> {
  await client.query(`set session authorization halyard_owner; set application_name to 'psql'`);
  await runPurge(client);
  await changeEnvironments(client);
  await changeFlag(client);
  await runSchedules(client);
  await runPlans(client);
  await client.query(`select app_private.set_setting('pending_per_flag', '500')`);
  await deleteFlag(client);
  await denyRequests(client);
  await asAdmin(client, `select audit.record_export('ndjson', '{"flag": "checkout"}', true)`);
  await recordRows(client);
  await recordGaps(client);
  await refuseEvent(client);
  await moveCursors(client);
  await acceptRestore(client);
  const { rows } = await client.query<WrittenEvent>(
    `select e.event_type, e.level, e.metadata, app_private.shipped_message(e.payload, 42) as message
     from audit.events e
     order by e.occurred_at, e.id`,
  );
  return rows;
}

/** Works under the name that a process's sessions have. */
async function named<T>(client: pg.Client, name: string, work: () => Promise<T>): Promise<T> {
  await client.query(`set application_name to '${name}'`);
  const result = await work();
  await client.query(`set application_name to 'psql'`);
  return result;
}

const asAdmin = (client: pg.Client, sql: string, parameters: unknown[] = [], reason = '') =>
  named(client, 'halyard-api', () => asAdminOf<string>(client, sql, parameters, reason));

async function runPurge(client: pg.Client): Promise<void> {
  await writeOldMonths(client, 1);
  await sealAll(client);
  await deliverAll(client, 'stdout');
  await retain(client, '1 month');
}

async function changeEnvironments(client: pg.Client): Promise<void> {
  await asAdmin(client, `select app_public.create_environment('trial')`, [], 'for the trial');
  await client.query(
    `alter table app_public.environments disable trigger _100_stamp;
     update app_public.environments set created_by = 'bob' where name = 'trial';
     alter table app_public.environments enable trigger _100_stamp;
     delete from app_public.environments where name = 'trial'`,
  );
  await asAdmin(client, `select app_public.create_environment('preview')`);
}

async function changeFlag(client: pg.Client): Promise<void> {
  const sql = `insert into app_public.feature_flags (flag_key) values ('checkout') returning id`;
  const id = await asAdmin(client, sql, [], 'a new one');
  const change = 'update app_public.feature_flags set rollout_percentage = 20 where id = $1';
  await asAdmin(client, `${change} returning id`, [id], 'for a few');
}

async function runSchedules(client: pg.Client): Promise<void> {
  const schedule = () =>
    asAdmin(
      client,
      `select id from app_public.schedule_flag_change('checkout', 'production', now() + interval '1 hour', '{"enabled": true}', 'launch day')`,
    );
  const moved = await schedule();
  const later = `clock_timestamp() + interval '2 hours'`;
  await asAdmin(
    client,
    `select id from app_public.reschedule_flag_change($1, ${later}, 'the fair')`,
    [moved],
    'the fair',
  );
  await asAdmin(client, `select id from app_public.cancel_flag_schedule($1, 'not now')`, [moved]);
  const applied = await schedule();
  // Past the triggers, because after a move in SQL it isn't known who asked for the schedule.
  await pastTriggers(
    client,
    `update app_public.feature_flag_schedules set scheduled_at = now() where id = '${applied}'`,
  );
  await apply(client);
  const flagId = `select id from app_public.feature_flags where flag_key = 'checkout'`;
  const { rows } = await client.query<{ id: string }>(flagId);
  const failed = await insertSchedule(client, rows[0]?.id ?? '', {
    ...{ dueIn: '-1 second', max_attempts: 1, updates: { rollout_percentage: 50 } },
  });
  await breakFlag(client, 'checkout');
  await apply(client);
  await mendFlag(client);
  const retry = `select id from app_public.retry_flag_schedule($1, 'mended')`;
  await asAdmin(client, retry, [failed.id], 'mended');
  await client.query('delete from app_public.feature_flag_schedules where id = $1', [failed.id]);
}

const makePlan = (client: pg.Client, title: string, changes: object[], dueIn: string | null) =>
  asAdmin(
    client,
    `select id from app_public.create_plan($1, $2, now() + $3::interval, 'launch day')`,
    [title, JSON.stringify([{ changes }]), dueIn],
    'launch day',
  );

const checkout = (environment: string, change: object) => ({
  ...{ flag_key: 'checkout', environment, updates: { enabled: true } },
  ...change,
});

/** A plan that is edited, fails, is retried and applied; one that takes it back, and one that is cancelled. */
async function runPlans(client: pg.Client): Promise<void> {
  await insertFlag(client, { flag_key: 'checkout', environment: 'preview' });
  const changes = [
    checkout('production', {
      updates: { enabled: false, rollout_percentage: 30 },
      ...{ expects: { rollout_percentage: 77 }, on_conflict: 'keep' },
    }),
    checkout('preview', { expects: { enabled: false }, on_conflict: 'suspend' }),
  ];
  const plan = await makePlan(client, 'Launch', changes, '1 hour');
  await asAdmin(
    client,
    `select id from app_public.edit_plan($1, starts_at => now() + interval '2 hours', reason => 'the fair')`,
    [plan],
    'the fair',
  );
  await failPoint(client, plan);
  await asAdmin(client, `select id from app_public.retry_plan($1, 'mended')`, [plan], 'mended');
  await apply(client);
  await client.query(
    `with reverted as (
       select (app_private.insert_plan('Revert of Launch', content, null, jsonb_build_object('planId', id))).id
       from app_public.plans where id = $1
     )
     select id from reverted`,
    [plan],
  );
  await client.query(
    `update app_public.feature_flag_schedules set scheduled_at = scheduled_at + interval '1 hour'
     where plan_id = (select id from app_public.plans where title = 'Revert of Launch')`,
  );
  const other = await makePlan(client, 'Again', changes, '1 hour');
  await asAdmin(client, `select id from app_public.cancel_plan($1, 'not now')`, [other]);
  await suspendPlans(client);
  await client.query('delete from app_public.feature_flag_schedules where plan_id = $1', [plan]);
  await client.query('delete from app_public.plans where id = $1', [plan]);
}

/** A plan that a stop keeps from being applied, and one that finds its flag changed. */
async function suspendPlans(client: pg.Client): Promise<void> {
  const stop = `select (app_public.stop_environment('preview', 'errors in the shop')).name`;
  await asAdmin(client, stop, [], 'errors in the shop');
  await makePlan(client, 'Held', [checkout('preview', {})], null);
  await apply(client);
  const resume = `select (app_public.resume_environment('preview', 'skip', 'all is well')).name`;
  await asAdmin(client, resume, [], 'all is well');
  const guard = { expects: { enabled: false }, on_conflict: 'suspend' };
  const guarded = await makePlan(client, 'Guarded', [checkout('preview', guard)], null);
  await apply(client);
  await asAdmin(
    client,
    `select (app_public.resume_schedule(s.id, 'checked')).id from app_public.feature_flag_schedules s where s.plan_id = $1`,
    [guarded],
  );
}

async function apply(client: pg.Client): Promise<void> {
  await client.query('set session authorization halyard_worker');
  await named(client, 'halyard worker', () => client.query('select app_private.apply_due()'));
  await client.query('set session authorization halyard_owner');
}

async function deleteFlag(client: pg.Client): Promise<void> {
  const { id } = await insertFlag(client, { flag_key: 'old' });
  await client.query('delete from app_public.feature_flags where id = $1', [id]);
}

/** One that has an event of its own, and seven that one event stands for. */
async function denyRequests(client: pg.Client): Promise<void> {
  const asApi = (sql: string) =>
    named(client, 'halyard-api', async () => {
      await client.query('begin');
      await become(client, 'viewer', { userId: 'victor', requestId: 'request-2' });
      await client.query('set local role none');
      await client.query(sql);
      await client.query('commit');
    });
  await asApi(
    `select app_private.record_denial('PATCH /api/admin/flags/{flagKey}', 'forbidden', 'checkout', 'production')`,
  );
  await asApi(`select app_private.record_denial(null, 'forbidden', null, null, 7)`);
  await client.query(`update app_private.denials set minute = minute - interval '2 minutes'`);
  await asApi('select app_private.record_denial_counts()');
}

/** Rows of each table that are changed past every trigger, and then recorded as they are found. */
async function recordRows(client: pg.Client): Promise<void> {
  await pastTriggers(
    client,
    `update app_public.environments set created_by = 'eve' where name = 'preview'`,
    `update app_public.feature_flags set rollout_percentage = 99 where flag_key = 'checkout'`,
    `update app_public.feature_flag_schedules set updates = '{"enabled": false}'`,
    `update app_private.settings set value = '100' where name = 'pending_per_flag'`,
    `update app_public.plans set reason = 'another'`,
  );
  for (const table of [
    ...['environments', 'feature_flags', 'feature_flag_schedules', 'plans', 'settings'],
  ])
    await client.query('select app_private.check_rows($1, null, 100, true)', [table]);
}

async function recordGaps(client: pg.Client): Promise<void> {
  const flag = await insertFlag(client, { flag_key: 'gone' });
  await insertSchedule(client, flag.id);
  await pastTriggers(
    client,
    `delete from app_public.feature_flag_schedules where flag_id = '${flag.id}'`,
    `delete from app_public.feature_flags where id = '${flag.id}'`,
    `delete from app_public.feature_flag_schedules where plan_id in (select id from app_public.plans where title = 'Again')`,
    `delete from app_public.plans where title = 'Again'`,
  );
  await client.query(`select app_private.reconcile_deleted_rows('', 1000)`);
}

async function refuseEvent(client: pg.Client): Promise<void> {
  await sealAll(client);
  const { rows } = await client.query<{ seq: string; event_id: string }>(
    'select seq, event_id from audit.ledger order by seq desc limit 1',
  );
  await client.query('set session authorization halyard_worker');
  await named(client, 'halyard worker', () =>
    client.query(
      `select app_private.record_undeliverable('webhook:example', t.token, $1, $2, 422)
       from app_private.take_lease('forward.webhook:example', 'test', 60000) as t (token)`,
      [rows[0]?.seq, rows[0]?.event_id],
    ),
  );
  await client.query('set session authorization halyard_owner');
}

async function moveCursors(client: pg.Client): Promise<void> {
  await client.query(
    `update audit.cursors set destination = 'file:trail.log', last_seq = 1 where destination = 'stdout'`,
  );
  await client.query(`select audit.forget_destination('file:trail.log')`);
}

async function acceptRestore(client: pg.Client): Promise<void> {
  await client.query(
    `insert into audit.divergences (found_in, destination, incarnation, seal_no, last_seq, head, sealed_at)
     select i.incarnation_no, 'cloudwatch:halyard', i.id, 9, 900, sha256('lost'), now() from audit.incarnations i`,
  );
  await client.query(`select app_private.accept_restore('a disk was lost', 'skip')`);
}
