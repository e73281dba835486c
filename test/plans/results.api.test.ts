import { describe, expect, test } from 'vitest';
import {
  changeResultSchema,
  environmentRowSchema,
  planSchema,
  scheduleSchema,
  type PlanChange,
} from '../../src/schemas.ts';
import { apply } from '../support/apply_due.ts';
import { contentsOf, inMinutes, useApi } from '../support/api.ts';
import { useDatabase, withClient } from '../support/database.ts';
import { insertSchedule } from '../support/factory.ts';
import { eventTypes, useDryRuns } from '../support/dry_runs.ts';
import { useGraphql } from '../support/graphql.ts';
import { planIn, planWith, usePlans } from '../support/plans_by_rest.ts';
import { adminToken, auditorToken, viewerToken } from '../support/tokens.ts';

const database = useDatabase();
const api = useApi(database);
const graphql = useGraphql(database);
const { asOwner, newChange, create, stateOf } = usePlans(database, api);
const token = adminToken();

const ask = (target: string, json?: object, as = token) => api.call(target, { token: as, json });
const OFF = { enabled: false, rollout_percentage: 100 };
const ON = { ...OFF, enabled: true };

const { dryRun, dryRunBy } = useDryRuns(database, api, graphql);

/** The keys of the first element of a list in an answer, in the order in which they are written. */
const keysOf = (body: object, list: string) =>
  Object.keys((body as Record<string, object[]>)[list]?.[0] ?? {});
const DIFF_KEYS = ['flag_key', 'environment', 'before', 'after'];

describe('several flags now', () => {
  test('are changed at once, and the plan that did it is found', async () => {
    const changes = [await newChange(), await newChange({ environment: 'staging' })];
    const answer = await ask('POST /api/admin/changes', { changes, reason: 'an incident' });
    expect(answer.status).toBe(200);
    const { plan_id, ...rest } = changeResultSchema.parse(answer.body);
    const diffs = changes.map(({ flag_key, environment }) => ({
      ...{ flag_key, environment, before: OFF, after: ON },
    }));
    expect(rest.changes).toHaveLength(2);
    expect(keysOf(answer.body, 'changes')).toEqual(DIFF_KEYS);
    expect(rest.changes).toEqual(expect.arrayContaining(diffs));
    expect(planIn(await ask(`GET /api/admin/plans/${plan_id}`))).toMatchObject({
      ...{ title: 'Change of 2 flags', status: 'completed', reason: 'an incident' },
    });
    for (const change of changes) expect(await stateOf(change)).toEqual(ON);
  });

  test('are changed by GraphQL alike', async () => {
    const { flag_key: flagKey, environment } = await newChange();
    const data = await graphql().data(
      `mutation ($changes: [PlanChangeInput!]!) {
        changeFlags(input: { changes: $changes, reason: "r" }) {
          plan { status reason appliedCount schedules { nodes { status before { enabled } } } }
          changes { flagKey environment before { enabled } after { enabled } }
        }
      }`,
      { changes: [{ flagKey, environment, updates: { enabled: true } }] },
    );
    expect(data).toEqual({
      changeFlags: {
        plan: {
          ...{ status: 'completed', reason: 'r', appliedCount: 1 },
          schedules: { nodes: [{ status: 'applied', before: { enabled: false } }] },
        },
        changes: [{ flagKey, environment, before: { enabled: false }, after: { enabled: true } }],
      },
    });
  });

  test('are not changed where one isn’t as expected, and the error says which', async () => {
    const guarded = await newChange({ expects: { enabled: true }, on_conflict: 'suspend' });
    const { flag_key, environment } = guarded;
    const changes = [await newChange(), guarded];
    const before = await contentsOf(database);
    const answer = await ask('POST /api/admin/changes', { changes });
    expect([answer.status, answer.body.code]).toEqual([409, 'change_conflict']);
    const conflict = { field: 'enabled', expected: true, found: false };
    expect(answer.body.conflicts).toEqual([{ flag_key, environment, ...conflict }]);
    const { errors } = await graphql().post(
      `mutation ($changes: [PlanChangeInput!]!) { changeFlags(input: { changes: $changes }) { clientMutationId } }`,
      {
        changes: [
          {
            ...{ flagKey: flag_key, environment, updates: { enabled: true } },
            ...{ expects: { enabled: true }, onConflict: 'suspend' },
          },
        ],
      },
    );
    expect(errors?.[0]?.extensions).toEqual({
      ...{ code: 'change_conflict', conflicts: [{ flagKey: flag_key, environment, ...conflict }] },
    });
    expect(await contentsOf(database)).toBe(before);
  });
});

test('a plan’s dry run shows the flags, the events and the conflicts, by both ways', async () => {
  const change = await newChange({ expects: { rollout_percentage: 5 } });
  const body = planWith(change);
  const found = await dryRun('POST /api/admin/plans/dry-run', body);
  const { flag_key, environment, updates } = change;
  expect(found.changes).toEqual([{ flag_key, environment, before: OFF, after: ON }]);
  expect(eventTypes(found)).toEqual(
    expect.arrayContaining([
      ...['flag_plan.created', 'flag_schedule.created', 'feature_flag.updated'],
      ...['flag_schedule.applied', 'flag_plan.completed'],
    ]),
  );
  expect(found.conflicts).toMatchObject([
    { flag_key, field: 'rollout_percentage', kind: 'expectation', expected: 5, found: 100 },
  ]);
  // As they are written, and not as the schema orders them.
  const written = (await ask('POST /api/admin/plans/dry-run', body)).body;
  expect(keysOf(written, 'changes')).toEqual(DIFF_KEYS);
  expect(keysOf(written, 'conflicts')).toEqual([
    ...['flag_key', 'environment', 'field', 'kind', 'expected', 'found'],
    ...['at', 'schedule_id', 'plan_id'],
  ]);
  const other = await dryRunBy('dryRunPlan', {
    ...{ title: body.title, startsAt: body.starts_at },
    steps: [
      {
        changes: [{ flagKey: flag_key, environment, updates, expects: { rolloutPercentage: 5 } }],
      },
    ],
  });
  expect(eventTypes(other)).toEqual(eventTypes(found));
  expect(other.changes).toMatchObject([{ flagKey: flag_key, after: { enabled: true } }]);
  expect(other.conflicts).toMatchObject([{ field: 'rollout_percentage' }]);
});

describe('a revert', () => {
  /** A flag that a plan has turned on. */
  async function changed(overrides: Partial<PlanChange> = {}) {
    const change = await newChange(overrides);
    const { body } = await ask('POST /api/admin/changes', { changes: [change] });
    return { change, id: changeResultSchema.parse(body).plan_id };
  }

  test('of a plan is a new plan, applied now', async () => {
    const { change, id } = await changed();
    const found = await dryRun(`POST /api/admin/plans/${id}/revert/dry-run`);
    expect(found.changes).toMatchObject([{ before: ON, after: OFF }]);
    const other = await dryRunBy('dryRunRevert', { planId: id });
    expect(other.changes).toMatchObject([{ after: { enabled: false } }]);
    const answer = await ask(`POST /api/admin/plans/${id}/revert`, { reason: 'a mistake' });
    expect(answer.status).toBe(201);
    const plan = planSchema.parse(answer.body);
    expect(plan).toMatchObject({
      ...{ status: 'completed', reverts: { plan_id: id }, reason: 'a mistake' },
    });
    expect(answer.headers.get('location')).toBe(`/api/admin/plans/${plan.id}`);
    expect(await stateOf(change)).toEqual(OFF);
    const again = await ask(`POST /api/admin/plans/${id}/revert`);
    expect([again.status, again.body.code]).toEqual([409, 'nothing_to_revert']);
    expect(
      await graphql().codeOf(
        `mutation { revertPlan(input: { id: "${id}", onConflict: null }) { plan { id } } }`,
      ),
    ).toBe('nothing_to_revert');
  });

  test('at a later time is a plan to come', async () => {
    const { change, id } = await changed();
    const at = inMinutes(60);
    const answer = await ask(`POST /api/admin/plans/${id}/revert`, { at, on_conflict: 'suspend' });
    expect(planIn(answer)).toMatchObject({
      ...{ status: 'active', next_at: at, starts_at: at },
      steps: [{ changes: [{ updates: { enabled: false }, on_conflict: 'suspend' }] }],
    });
    expect(await stateOf(change)).toEqual(ON);
  });

  test('that finds something else waits for an admin, who resumes it', async () => {
    const { change, id } = await changed({ updates: { rollout_percentage: 5 } });
    const path = `/api/admin/flags/${change.flag_key}`;
    await ask(`PATCH ${path}`, { rollout_percentage: 7 });
    const answer = await ask(`POST /api/admin/plans/${id}/revert`, { on_conflict: 'suspend' });
    const plan = planIn(answer);
    expect([answer.status, plan.status, plan.suspended_for]).toEqual([201, 'active', 'conflict']);
    const { body } = await ask(`GET ${path}/schedule?status=suspended`);
    const [row] = body as unknown as [{ id: string }];
    expect(scheduleSchema.parse(row)).toMatchObject({
      suspended_details: { expected: { rollout_percentage: 5 }, found: { rollout_percentage: 7 } },
    });
    const resumed = await ask(`POST ${path}/schedule/${row.id}/resume`, { reason: 'it is right' });
    expect(scheduleSchema.parse(resumed.body)).toMatchObject({
      ...{ status: 'pending', resolution_reason: 'it is right', plan_id: plan.id },
    });
    expect(planIn(await ask(`GET /api/admin/plans/${plan.id}`)).suspended_for).toBe(null);
  });

  test('of an applied schedule takes the schedule’s own flag', async () => {
    const change = await newChange();
    const path = `/api/admin/flags/${change.flag_key}`;
    const { id } = await asOwner(async (client) => {
      const { rows } = await client.query<{ id: string }>(
        'select id from app_public.feature_flags where flag_key = $1',
        [change.flag_key],
      );
      return insertSchedule(client, rows[0]?.id ?? '', { dueIn: '-1 second' });
    });
    // The worker, whose word for the schedule counts.
    await withClient(database.workerUrl, (client) => apply(client));
    const found = await dryRun(`POST ${path}/schedule/${id}/revert/dry-run`);
    expect(found.changes).toMatchObject([{ before: ON, after: OFF }]);
    const other = await newChange();
    for (const below of ['revert', 'revert/dry-run']) {
      const answer = await ask(`POST /api/admin/flags/${other.flag_key}/schedule/${id}/${below}`);
      expect([answer.status, answer.body.code]).toEqual([404, 'schedule_not_found']);
    }
    const { revertSchedule } = await graphql().data<Record<string, { plan: { id: string } }>>(
      `mutation { revertSchedule(input: { id: "${id}" }) { plan { id status reverts } } }`,
    );
    expect(revertSchedule?.plan).toMatchObject({
      ...{ status: 'completed', reverts: { scheduleId: id } },
    });
    expect(planIn(await ask(`GET /api/admin/plans/${revertSchedule?.plan.id}`)).reverts).toEqual({
      schedule_id: id,
    });
    expect(await stateOf(change)).toEqual(OFF);
  });

  test('of a span takes back what was changed in it', async () => {
    const from = new Date().toISOString();
    const { change } = await changed();
    const to = new Date(Date.now() + 1).toISOString();
    await changed();
    const span = { from, to, flags: [change.flag_key] };
    const path = '/api/admin/environments/production/revert';
    expect((await dryRun(`POST ${path}/dry-run`, span)).changes).toMatchObject([
      { flag_key: change.flag_key, before: ON, after: OFF },
    ]);
    const other = await dryRunBy('dryRunRevert', { environment: 'production', ...span });
    expect(other.changes).toMatchObject([{ flagKey: change.flag_key }]);
    const answer = await ask(`POST ${path}`, span);
    expect(answer.status).toBe(201);
    expect(planSchema.parse(answer.body).reverts).toEqual({ environment: 'production', from, to });
    expect(await stateOf(change)).toEqual(OFF);
    const revert = `mutation ($input: RevertSpanInput!) { revertSpan(input: $input) { plan { id } } }`;
    const input = { environment: 'production', ...span };
    expect(await graphql().codeOf(revert, { input })).toBe('nothing_to_revert');
  });
});

describe('a stop', () => {
  const path = '/api/admin/environments/staging';

  test('suspends what comes due, and a resume says what becomes of it', async () => {
    const stopped = await ask(`POST ${path}/stop`, { reason: ' an incident ' });
    expect(environmentRowSchema.parse(stopped.body)).toMatchObject({
      ...{ name: 'staging', stopped_by: 'alice', stop_reason: 'an incident' },
    });
    const again = await ask(
      `POST ${path}/stop`,
      { reason: 'again' },
      adminToken({ userId: 'bob' }),
    );
    expect([again.status, again.body.code]).toEqual([409, 'environment_state']);
    expect(again.body.detail).toContain('alice');
    expect((await ask(`GET ${path}`, undefined, auditorToken())).body).toEqual(stopped.body);
    const { stopped_by, stop_reason, ...seen } = stopped.body as unknown as Record<string, unknown>;
    expect([stopped_by, stop_reason]).not.toContain(undefined);
    expect((await ask(`GET ${path}`, undefined, viewerToken())).body).toEqual(seen);

    const change = await newChange({ environment: 'staging' });
    const plan = await create({ title: 'Now', steps: [{ changes: [change] }] });
    await asOwner((client) => apply(client));
    expect(planIn(await ask(`GET /api/admin/plans/${plan.id}`)).suspended_for).toBe('stop');
    const { body } = await ask(
      `GET /api/admin/flags/${change.flag_key}/schedule?environment=staging&status=suspended`,
    );
    const [row] = body as unknown as [{ id: string }];
    expect(scheduleSchema.parse(row)).toMatchObject({ suspended_for: 'stop', plan_id: plan.id });
    const refused = `POST /api/admin/flags/${change.flag_key}/schedule/${row.id}/resume?environment=staging`;
    expect((await ask(refused, { reason: 'r' })).body.code).toBe('environment_state');

    const found = await dryRun(`POST ${path}/resume/dry-run`, { missed: 'apply' });
    expect(found.changes).toMatchObject([{ flag_key: change.flag_key, before: OFF, after: ON }]);
    const other = await dryRunBy('dryRunResume', {
      ...{ environment: 'staging', missed: 'apply', except: [row.id] },
    });
    expect(other.changes).toEqual([]);
    const unknown = '4d6d1f0e-6a3c-4a43-9a58-4b2c1c3a7d11';
    const wrong = { missed: 'skip', except: [unknown], reason: 'mended' };
    const answer = await ask(`POST ${path}/resume`, wrong);
    expect([answer.status, answer.body.code]).toEqual([400, 'invalid_value']);
    const resumed = await ask(`POST ${path}/resume`, { missed: 'skip', reason: 'mended' });
    expect(environmentRowSchema.parse(resumed.body)).toMatchObject({ stopped_at: null });
    expect(planIn(await ask(`GET /api/admin/plans/${plan.id}`)).status).toBe('completed');
    const skipped = await ask(refused.replace('POST', 'GET').replace('/resume', ''));
    expect(skipped.body).toMatchObject({ status: 'skipped', resolution_reason: 'mended' });
    expect(await stateOf(change)).toEqual(OFF);
  });
});
