import type pg from 'pg';
import { describe, expect, test } from 'vitest';
import { asWorker, value, withActors } from '../support/actors.ts';
import { useDatabase } from '../support/database.ts';
import { dryRun } from '../support/dry_run.ts';
import { insertFlag, insertSchedule } from '../support/factory.ts';
import { insertPlan } from '../support/plan_points.ts';
import { asAdmin, changeOf, createPlan, stepsOf } from '../support/plans.ts';

const database = useDatabase();

const rolloutOf = (rollout_percentage: number) => ({ rollout_percentage });

/** Events but for what differs from run to run: times, and ids that are random or made of such. */
function comparable(events: readonly object[], known: readonly string[]): string[] {
  return events.map((event) =>
    JSON.stringify(event)
      .replace(/"latenessMs":-?\d+/g, '"latenessMs":0')
      .replace(/"stoppedForMs":-?\d+/g, '"stoppedForMs":0')
      .replace(/\d{4}-\d{2}-\d{2}T[\d:.]+Z/g, 'T')
      .replace(/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, (id) =>
        known.includes(id) ? String(known.indexOf(id)) : 'id',
      ),
  );
}

/** The texts of the events that were written since, in order. */
async function eventsSince(client: pg.ClientBase, queueId: string): Promise<object[]> {
  const { rows } = await client.query<{ event: object }>(
    `select e.payload::jsonb as event from audit.queue q join audit.events e on e.id = q.event_id where q.id > $1 order by q.id`,
    [queueId],
  );
  return rows.map(({ event }) => event);
}

const lastOfQueue = (client: pg.ClientBase) =>
  value<string>(client, 'select coalesce(max(id), 0) from audit.queue');

/** Applies what is due, as the worker's sessions do. */
const apply = (client: pg.ClientBase) =>
  asWorker(client, async () => {
    const name = await value<string>(client, `select current_setting('application_name')`);
    await client.query(`set local application_name to 'halyard worker'`);
    await client.query('select from app_private.apply_due()');
    await client.query(`select set_config('application_name', $1, true)`, [name]);
  });

const stop = (client: pg.ClientBase) =>
  client.query(`select app_private.stop_environment('production', 'fire')`);

describe('what is tried', () => {
  test('a plan: its changes, and the very events that it writes when it comes', async () => {
    await withActors(database, async (client) => {
      const flags = [
        await insertFlag(client, { rollout_percentage: 10 }),
        await insertFlag(client, { environment: 'staging' }),
      ] as const;
      const changes = [
        changeOf(flags[0], {
          updates: rolloutOf(50),
          expects: rolloutOf(10),
          on_conflict: 'suspend',
        }),
        changeOf(flags[1], {
          updates: { enabled: true, ...rolloutOf(7) },
          expects: rolloutOf(8),
          on_conflict: 'keep',
        }),
      ];
      const tried = await asAdmin(client, () =>
        dryRun(client, 'plan($1, $2, null, $3)', ['Release', stepsOf(...changes), 'sale']),
      );
      expect(tried.changes).toEqual([
        {
          ...{ flag_key: flags[0].flag_key, environment: 'production' },
          before: { enabled: false, rollout_percentage: 10 },
          after: { enabled: false, rollout_percentage: 50 },
        },
        {
          ...{ flag_key: flags[1].flag_key, environment: 'staging' },
          before: { enabled: false, rollout_percentage: 100 },
          after: { enabled: true, rollout_percentage: 100 },
        },
      ]);
      expect(tried.conflicts).toMatchObject([
        {
          flag_key: flags[1].flag_key,
          kind: 'expectation',
          expected: 8,
          found: 100,
          schedule_id: null,
        },
      ]);
      const since = await lastOfQueue(client);
      await asAdmin(client, () => createPlan(client, changes, { dueIn: null, reason: 'sale' }));
      await apply(client);
      const known = flags.map(({ id }) => id);
      const real = comparable(await eventsSince(client, since), known);
      expect(real).toHaveLength(8);
      expect(comparable(tried.events, known).toSorted()).toEqual(real.toSorted());
    });
  });

  test('a plan for later meets what comes until then', async () => {
    await withActors(database, async (client) => {
      const flag = await insertFlag(client, { rollout_percentage: 10 });
      const before = await insertSchedule(client, flag.id, {
        dueIn: '1 hour',
        updates: rolloutOf(20),
      });
      const steps = stepsOf(
        changeOf(flag, { updates: rolloutOf(50), expects: rolloutOf(10), on_conflict: 'suspend' }),
      );
      const at = await value(client, `select (now() + interval '2 hours')::text`);
      const tried = await asAdmin(client, () =>
        dryRun(client, 'plan($1, $2, $3)', ['Release', steps, at]),
      );
      expect(tried.changes).toMatchObject([{ before: rolloutOf(20), after: rolloutOf(20) }]);
      expect(tried.events.map(({ eventType, actorKind }) => [eventType, actorKind])).toEqual([
        ['flag_plan.created', 'admin'],
        ['flag_schedule.created', 'admin'],
        ['flag_schedule.suspended', 'system'],
      ]);
      expect(tried.conflicts).toMatchObject([
        { kind: 'expectation', expected: 10, found: 20, schedule_id: before.id, plan_id: null },
      ]);
    });
  });

  test('an edit: without what the plan would do unedited; and without arguments the plan as it is', async () => {
    await withActors(database, async (client) => {
      const flag = await insertFlag(client, { rollout_percentage: 10 });
      const change = {
        ...{ updates: rolloutOf(50), expects: rolloutOf(10) },
        on_conflict: 'suspend' as const,
      };
      const { id } = await insertPlan(client, '1 hour', [{ flag, ...change }]);
      const edited = stepsOf(changeOf(flag, { updates: rolloutOf(60), expects: rolloutOf(10) }));
      const tried = (...values: unknown[]) =>
        asAdmin(client, () =>
          dryRun(client, 'edit($1, steps => $2)', [
            id,
            ...values,
            ...(values.length ? [] : [null]),
          ]),
        );
      expect(await tried()).toMatchObject({
        changes: [{ before: rolloutOf(10), after: rolloutOf(50) }],
        conflicts: [],
      });
      // The revision that the request names is the plan's, and not that of its flag.
      await client.query(`update app_public.feature_flags set description = 'Changed'`);
      await client.query(`select set_config('halyard.expected_revision', '1', true)`);
      const { changes, conflicts, events } = await tried(edited);
      await client.query(`select set_config('halyard.expected_revision', '', true)`);
      expect(changes).toMatchObject([{ before: rolloutOf(10), after: rolloutOf(60) }]);
      expect(conflicts).toEqual([]);
      expect(events.map(({ eventType }) => eventType)).toEqual([
        ...['flag_schedule.deleted', 'flag_plan.updated', 'flag_schedule.created'],
        ...['feature_flag.updated', 'flag_schedule.applied', 'flag_plan.completed'],
      ]);
      expect(await value(client, 'select revision::int from app_public.plans')).toBe(1);
      // Of a plan that waits for its next attempt, a later schedule decides that comes before it.
      await client.query(
        `update app_public.feature_flag_schedules set scheduled_at = now() - interval '1 hour', next_attempt_at = now() + interval '1 hour'`,
      );
      const later = await insertSchedule(client, flag.id, {
        ...{ dueIn: '30 minutes', updates: rolloutOf(70) },
      });
      expect(await tried()).toMatchObject({
        changes: [{ before: rolloutOf(70), after: rolloutOf(70) }],
      });
      await client.query('delete from app_public.feature_flag_schedules where id = $1', [later.id]);
      await client.query(
        `update app_public.feature_flag_schedules
         set status = 'suspended', suspended_for = 'conflict', suspended_details = '{}'`,
      );
      expect(await tried()).toMatchObject({ changes: [{ after: rolloutOf(10) }], events: [] });
      await asAdmin(client, () => client.query('select app_public.cancel_plan($1)', [id]));
      await expect(tried(edited)).rejects.toMatchObject({ code: 'ZF019' });
    });
  });

  test('a revert: the changes that it makes and those that it keeps', async () => {
    await withActors(database, async (client) => {
      const [first, second] = [await insertFlag(client), await insertFlag(client)];
      const plan = await insertPlan(client, '-1 second', [
        { flag: first, updates: rolloutOf(50) },
        { flag: second, updates: rolloutOf(50) },
      ]);
      await apply(client);
      await client.query(
        'update app_public.feature_flags set rollout_percentage = 60 where id = $1',
        [second.id],
      );
      const source = { plan_id: plan.id };
      const tried = await asAdmin(client, () => dryRun(client, 'revert($1)', [source]));
      expect(tried.changes).toHaveLength(2);
      expect(tried.changes).toContainEqual({
        ...{ flag_key: first.flag_key, environment: 'production' },
        before: { enabled: false, rollout_percentage: 50 },
        after: { enabled: false, rollout_percentage: 100 },
      });
      expect(tried.conflicts).toMatchObject([
        { flag_key: second.flag_key, expected: 50, found: 60 },
      ]);
      const since = await lastOfQueue(client);
      await asAdmin(client, () => client.query('select app_public.revert_plan($1)', [plan.id]));
      const known = [first.id, second.id, plan.id];
      expect(comparable(tried.events, known).toSorted()).toEqual(
        comparable(await eventsSince(client, since), known).toSorted(),
      );
      for (const [of, given] of [
        ['schedule', { schedule_id: plan.schedules[1] }],
        [
          'span',
          {
            environment: 'production',
            from: '2020-01-01',
            to: '2090-01-01',
            flags: [second.flag_key],
          },
        ],
      ] as const) {
        const { changes } = await asAdmin(client, () =>
          dryRun(client, 'revert($1, null, $2)', [given, 'overwrite']),
        );
        expect(changes, of).toHaveLength(1);
      }
    });
  });

  test('a resume: what came due is applied or skipped, as it says', async () => {
    await withActors(database, async (client) => {
      const [plain, guarded, skipped] = [
        await insertFlag(client),
        await insertFlag(client),
        await insertFlag(client),
      ];
      await stop(client);
      await insertSchedule(client, plain.id, { dueIn: '-1 minute', updates: rolloutOf(1) });
      const late = await insertSchedule(client, skipped.id, {
        dueIn: '-1 minute',
        updates: rolloutOf(2),
      });
      await insertPlan(client, '-1 minute', [
        { flag: guarded, updates: rolloutOf(3), expects: rolloutOf(4), on_conflict: 'suspend' },
      ]);
      await apply(client);
      const tried = await asAdmin(client, () =>
        dryRun(client, 'resume($1, $2, $3)', ['production', 'apply', [late.id]]),
      );
      const of = (flag: { flag_key: string }, after: number) => ({
        ...{ flag_key: flag.flag_key, environment: 'production' },
        before: { enabled: false, rollout_percentage: 100 },
        after: { enabled: false, rollout_percentage: after },
      });
      expect(tried.changes).toHaveLength(2);
      expect(tried.changes).toEqual(expect.arrayContaining([of(plain, 1), of(guarded, 100)]));
      expect(tried.conflicts).toMatchObject([
        { flag_key: guarded.flag_key, expected: 4, found: 100 },
      ]);
      const since = await lastOfQueue(client);
      await asAdmin(client, () =>
        client.query(
          `select app_public.resume_environment('production', 'apply', 'Dry run.', $1)`,
          [[late.id]],
        ),
      );
      const known = [plain.id, guarded.id, skipped.id, late.id];
      expect(comparable(tried.events, known).toSorted()).toEqual(
        comparable(await eventsSince(client, since), known).toSorted(),
      );
    });
  });
});
