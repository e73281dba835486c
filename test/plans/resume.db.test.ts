import { expect, test } from 'vitest';
import { asWorker, value } from '../support/actors.ts';
import { apply, flagState, outcome } from '../support/apply_due.ts';
import { useDatabase } from '../support/database.ts';
import { dryRun } from '../support/dry_run.ts';
import { planSummary } from '../support/due_plans.ts';
import { insertSchedule } from '../support/factory.ts';
import { asAdmin } from '../support/plans.ts';
import { sqlStateOf } from '../support/roles.ts';
import { briefRowProblems } from '../support/row_problems.ts';
import { resume, RESUME, statusesOf, whileStopped } from '../support/stopped.ts';
import { queuedEvents } from '../support/trail.ts';

const database = useDatabase();

test('I2: resumed with apply they are applied at once, in their order', async () => {
  await whileStopped(database, async (stopped) => {
    const { client, flags, plan } = stopped;
    await asWorker(client, () => apply(client));
    expect(await resume(client, 'apply')).toEqual({
      ...{ missed: 'apply', applied: 5, skipped: 0, reason: 'All clear', by: 'bob' },
      ...{ at: expect.any(String) as string, stoppedForMs: expect.any(Number) as number },
    });
    expect(await asWorker(client, () => apply(client))).toEqual(outcome({ applied: 5 }));
    expect(await flagState(client, flags[0] ?? '')).toBe('false 2');
    expect(await planSummary(client, plan)).toMatchObject({ status: 'completed', applied: 1 });
    const last = (await queuedEvents(client)).findLast(
      ({ event_type }) => event_type === 'environment.resumed',
    );
    expect(last).toMatchObject({
      ...{ level: 'warning', environment: 'production', admin_user_id: 'bob' },
      metadata: {
        ...{ name: 'production', reason: 'All clear', missed: 'apply', applied: 5, skipped: 0 },
        before: { stopReason: 'Incident 7', stoppedBy: 'alice' },
      },
    });
    expect(await briefRowProblems(client)).toEqual([]);
  });
});

test.for([
  ['suspended by the worker', true],
  ['not seen by a worker yet', false],
] as const)('I2: resumed with skip, what was %s is skipped', async ([, isSuspended]) => {
  await whileStopped(database, async (stopped) => {
    const { client, flags, plan } = stopped;
    if (isSuspended) await asWorker(client, () => apply(client));
    await resume(client, 'skip');
    await asWorker(client, () => apply(client));
    expect(await statusesOf(stopped)).toEqual(['skipped', 'skipped', 'skipped']);
    expect(await flagState(client, flags[0] ?? '')).toBe('false 100');
    expect(await planSummary(client, plan)).toEqual({
      ...{ status: 'completed', skipped: 1 },
      schedules: { c: 'skipped', d: 'skipped' },
    });
    const skipped = (await queuedEvents(client)).filter(
      ({ event_type }) => event_type === 'flag_schedule.skipped',
    );
    expect(skipped).toHaveLength(5);
    expect(skipped[0]?.metadata.reason).toBe('All clear');
    expect(await briefRowProblems(client)).toEqual([]);
  });
});

test.for([
  ['apply', ['skipped', 'applied', 'applied'], 'completed', 1],
  ['skip', ['applied', 'skipped', 'skipped'], 'completed', undefined],
] as const)(
  'resumed with %s, the other is done with exceptions, of which one stands for its point',
  async ([missed, expected, status, skipped]) => {
    await whileStopped(database, async (stopped) => {
      const { client, schedules, plan } = stopped;
      await asWorker(client, () => apply(client));
      const part = await value<string>(
        client,
        'select id from app_public.feature_flag_schedules where plan_id = $1 limit 1',
        [plan],
      );
      await resume(client, missed, { except: [schedules[0] ?? '', part] });
      await asWorker(client, () => apply(client));
      expect(await statusesOf(stopped)).toEqual(expected);
      expect(await planSummary(client, plan)).toMatchObject({
        ...{ status, ...(skipped !== undefined && { skipped }) },
      });
    });
  },
);

test('an exception that isn’t among what came due is refused, and nothing is changed', async () => {
  await whileStopped(database, async (stopped) => {
    const { client } = stopped;
    await asWorker(client, () => apply(client));
    const other = await insertSchedule(client, stopped.flags[0] ?? '');
    for (const missed of ['apply', 'skip'])
      for (const exception of [other.id, null])
        expect(
          await asAdmin(client, () =>
            sqlStateOf(client, () =>
              client.query(RESUME, ['production', missed, 'All clear', [exception]]),
            ),
          ),
        ).toBe('22023');
    expect(await statusesOf(stopped)).toEqual(['suspended', 'suspended', 'suspended']);
  });
});

test('a release of two stopped environments waits for the second', async () => {
  await whileStopped(database, async (stopped) => {
    const { client, plan } = stopped;
    await asAdmin(client, () =>
      client.query(`select from app_public.stop_environment('staging', 'Too')`),
    );
    await asWorker(client, () => apply(client));
    await resume(client, 'skip');
    await asWorker(client, () => apply(client));
    expect(await statusesOf(stopped)).toEqual(['skipped', 'skipped', 'skipped']);
    expect(await planSummary(client, plan)).toMatchObject({
      schedules: { c: 'suspended', d: 'suspended' },
    });
    await resume(client, 'apply', { environment: 'staging' });
    await asWorker(client, () => apply(client));
    expect(await planSummary(client, plan)).toMatchObject({ status: 'completed' });
  });
});

test('a dry run of a resume has nothing of what the token doesn’t reach', async () => {
  await whileStopped(database, async ({ client }) => {
    await asWorker(client, () => apply(client));
    const tried = await asAdmin(
      client,
      () => dryRun(client, 'resume($1, $2)', ['production', 'apply']),
      { environments: ['production'] },
    );
    const environments = (parts: object[]) => [
      ...new Set(parts.map((part) => (part as { environment: string }).environment)),
    ];
    expect(environments(tried.changes)).toEqual(['production']);
    expect(environments(tried.events)).toEqual(['production']);
  });
});

test.for([
  ['apply', true, { c: 'applied', d: 'applied' }],
  ['skip', true, { c: 'suspended', d: 'suspended' }],
  ['skip', false, { c: 'suspended', d: 'suspended' }],
] as const)(
  'a release that reaches beyond the token, resumed with %s (suspended already: %s)',
  async ([missed, isSuspended, expected]) => {
    await whileStopped(database, async (stopped) => {
      const { client, plan } = stopped;
      if (isSuspended) await asWorker(client, () => apply(client));
      await resume(client, missed, { environments: ['production'] });
      await asWorker(client, () => apply(client));
      expect(await planSummary(client, plan)).toMatchObject({ schedules: expected });
      if (missed === 'apply') return;
      // An admin of both lets it go.
      const part = await value(
        client,
        'select id from app_public.feature_flag_schedules where plan_id = $1 limit 1',
        [plan],
      );
      await asAdmin(client, () =>
        client.query(`select from app_public.resume_schedule($1, 'Go')`, [part]),
      );
      await asWorker(client, () => apply(client));
      expect(await planSummary(client, plan)).toMatchObject({ status: 'completed' });
    });
  },
);
