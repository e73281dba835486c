import { beforeAll, describe, expect, test } from 'vitest';
import type { PlanChange } from '../../src/schemas.ts';
import { contentsOf, inMinutes, useApi } from '../support/api.ts';
import { useDatabase } from '../support/database.ts';
import { useGraphql } from '../support/graphql.ts';
import { planWith, usePlans } from '../support/plans_by_rest.ts';
import { adminToken } from '../support/tokens.ts';

const database = useDatabase();
const api = useApi(database);
const graphql = useGraphql(database);
const { asOwner, newChange } = usePlans(database, api);
const token = adminToken();

let change: PlanChange;
beforeAll(async () => {
  change = await newChange();
});

const PLANS = '/api/admin/plans';
const withChange = (overrides: object) => planWith({ ...change, ...overrides });

describe('by REST', () => {
  const refusals: [string, () => object, string, string?][] = [
    ['no title', () => ({ ...withChange({}), title: undefined }), 'invalid_plan', 'title'],
    ['a blank title', () => ({ ...withChange({}), title: ' ' }), 'invalid_plan', 'title'],
    [
      'a long title',
      () => ({ ...withChange({}), title: 'x'.repeat(201) }),
      'invalid_plan',
      'title',
    ],
    ['two lines', () => ({ ...withChange({}), title: 'a\nb' }), 'invalid_plan', 'title'],
    ['no steps', () => ({ ...withChange({}), steps: undefined }), 'invalid_plan', 'steps'],
    ['two steps', () => ({ ...withChange({}), steps: [{}, {}] }), 'invalid_plan', 'steps'],
    ['no changes', () => planWith(), 'invalid_plan', 'steps.0.changes'],
    [
      '201 changes',
      () => planWith(...Array.from({ length: 201 }, () => change)),
      'invalid_plan',
      'steps.0.changes',
    ],
    [
      'a flag twice',
      () => planWith(change, { ...change, updates: { rollout_percentage: 5 } }),
      'invalid_plan',
      'steps.0.changes.1',
    ],
    [
      'a value out of range',
      () => withChange({ updates: { rollout_percentage: 101 } }),
      'invalid_plan',
      'steps.0.changes.0.updates.rollout_percentage',
    ],
    ['no updates', () => withChange({ updates: {} }), 'invalid_plan', 'steps.0.changes.0.updates'],
    [
      'an unknown field',
      () => withChange({ expects: { colour: 'red' } }),
      'invalid_plan',
      'steps.0.changes.0.expects',
    ],
    [
      'a guard without an expectation',
      () => withChange({ on_conflict: 'keep' }),
      'invalid_plan',
      'steps.0.changes.0.on_conflict',
    ],
    [
      'an unknown guard',
      () => withChange({ expects: { enabled: false }, on_conflict: 'ask' }),
      'invalid_plan',
      'steps.0.changes.0.on_conflict',
    ],
    [
      'no environment',
      () => withChange({ environment: undefined }),
      'invalid_plan',
      'steps.0.changes.0.environment',
    ],
    ['a time in words', () => ({ ...withChange({}), starts_at: 'soon' }), 'invalid_request'],
    ['another key', () => ({ ...withChange({}), zone: 'UTC' }), 'invalid_request'],
    [
      'a past time',
      () => ({ ...withChange({}), starts_at: inMinutes(-5) }),
      'scheduled_at_in_past',
    ],
    [
      'a far time',
      () => ({ ...withChange({}), starts_at: '9999-12-31T23:59:59-01:00' }),
      'scheduled_at_out_of_range',
    ],
  ];

  test.each(refusals)('a plan with %s is refused', async (_name, body, code, path) => {
    const before = await contentsOf(database);
    for (const target of [PLANS, `${PLANS}/dry-run`]) {
      const answer = await api.call(`POST ${target}`, { token, json: body() });
      expect([answer.status, answer.body.code]).toEqual([400, code]);
      if (path !== undefined) expect(answer.body.errors?.[0]?.path).toBe(path);
    }
    expect(await contentsOf(database)).toBe(before);
  });

  const ID = '4d6d1f0e-6a3c-4a43-9a58-4b2c1c3a7d11';
  const ENVIRONMENT = '/api/admin/environments/production';
  const SPAN = { from: '2020-01-01T00:00:00Z', to: '2020-01-02T00:00:00Z' };

  test.for<[target: string, json: object | undefined, status: number, code: string]>([
    [`GET ${PLANS}/${ID}`, undefined, 404, 'plan_not_found'],
    [`PATCH ${PLANS}/${ID}`, { title: 'T' }, 404, 'plan_not_found'],
    [`PATCH ${PLANS}/${ID}`, {}, 400, 'invalid_request'],
    [`PATCH ${PLANS}/${ID}`, { starts_at: null }, 400, 'invalid_request'],
    [`PATCH ${PLANS}/${ID}`, { title: 'T', expected_revision: 0 }, 400, 'invalid_request'],
    [`POST ${PLANS}/${ID}/cancel`, undefined, 404, 'plan_not_found'],
    [`POST ${PLANS}/${ID}/cancel`, { why: 'x' }, 400, 'invalid_request'],
    [`POST ${PLANS}/${ID}/retry`, undefined, 404, 'plan_not_found'],
    [`GET ${PLANS}/7`, undefined, 400, 'invalid_request'],
    [`PUT ${PLANS}/${ID}`, {}, 405, 'method_not_allowed'],
    [`DELETE ${PLANS}`, undefined, 405, 'method_not_allowed'],
    [`GET ${PLANS}/dry-run/cancel`, undefined, 405, 'method_not_allowed'],
    [`GET /api/admin/changes`, undefined, 405, 'method_not_allowed'],
    [`POST ${PLANS}/${ID}/revert`, { on_conflict: 'ask' }, 400, 'invalid_request'],
    [`POST ${ENVIRONMENT}/revert`, {}, 400, 'invalid_request'],
    [`POST ${ENVIRONMENT}/revert`, { ...SPAN, to: SPAN.from }, 400, 'invalid_request'],
    [`POST ${ENVIRONMENT}/revert`, { ...SPAN, flags: [] }, 400, 'invalid_request'],
    [`POST ${ENVIRONMENT}/stop`, undefined, 400, 'invalid_request'],
    [`POST ${ENVIRONMENT}/stop`, { reason: ' ' }, 400, 'invalid_request'],
    [`POST ${ENVIRONMENT}/stop`, { reason: 'x'.repeat(501) }, 400, 'invalid_request'],
    [`POST ${ENVIRONMENT}/resume`, { reason: 'r' }, 400, 'invalid_request'],
    [`POST ${ENVIRONMENT}/resume`, { missed: 'wait', reason: 'r' }, 400, 'invalid_request'],
    [`POST ${ENVIRONMENT}/resume`, { missed: 'skip' }, 400, 'invalid_request'],
    [`POST ${ENVIRONMENT}/resume`, { missed: 'skip', reason: 'r' }, 409, 'environment_state'],
    ['POST /api/admin/environments/no-such/stop', { reason: 'r' }, 404, 'environment_not_found'],
  ])('%s %j is %i', async ([target, json, status, code]) => {
    const before = await contentsOf(database);
    const answer = await api.call(target, { token, json });
    expect([answer.status, answer.body.code]).toEqual([status, code]);
    expect(await contentsOf(database)).toBe(before);
  });

  test('200 changes with the longest keys are one plan, in any spacing', async () => {
    const environment = 'e'.repeat(20);
    const key = (n: number) => String(n).padStart(100, 'k');
    await asOwner((client) =>
      client.query(
        `with e as (insert into app_public.environments (name) values ($1) returning name)
         insert into app_public.feature_flags (flag_key, environment)
         select lpad(n::text, 100, 'k'), e.name from e, generate_series(1, 200) n`,
        [environment],
      ),
    );
    const changes = Array.from({ length: 200 }, (_, i) => ({
      ...{ flag_key: key(i + 1), environment, updates: { enabled: true, rollout_percentage: 100 } },
      ...{ expects: { enabled: false, rollout_percentage: 100 }, on_conflict: 'suspend' as const },
    }));
    const answer = await api.call(`POST ${PLANS}`, {
      token,
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(planWith(...changes), null, 4),
    });
    expect([answer.status, answer.text]).toEqual([201, expect.stringContaining(key(200))]);
    const more = { ...planWith(change), reason: 'x'.repeat(300_000) };
    expect((await api.call(`POST ${PLANS}`, { token, json: more })).body.code).toBe(
      'body_too_large',
    );
  });
});

describe('by GraphQL', () => {
  const CREATE = `mutation ($input: CreatePlanInput!) { createPlan(input: $input) { plan { id } } }`;
  const EDIT = `mutation ($input: EditPlanInput!) { editPlan(input: $input) { plan { id } } }`;
  const TRY = `mutation ($input: DryRunEditInput!) { dryRunEdit(input: $input) { dryRun { events } } }`;
  const REVERT = `mutation ($input: DryRunRevertInput!) { dryRunRevert(input: $input) { dryRun { events } } }`;
  const ID = '4d6d1f0e-6a3c-4a43-9a58-4b2c1c3a7d11';

  const input = (overrides: object = {}) => ({
    title: 'Release',
    startsAt: inMinutes(60),
    steps: [
      {
        changes: [
          {
            ...{ flagKey: change.flag_key, environment: 'production', updates: { enabled: true } },
            ...overrides,
          },
        ],
      },
    ],
  });

  test.each<[string, string, () => object, string]>([
    ['a blank title', CREATE, () => ({ ...input(), title: ' ' }), 'invalid_plan'],
    ['no steps', CREATE, () => ({ ...input(), steps: [] }), 'invalid_plan'],
    ['no updates', CREATE, () => input({ updates: {} }), 'invalid_plan'],
    ['null updates', CREATE, () => input({ updates: { enabled: null } }), 'invalid_plan'],
    ['an unknown field', CREATE, () => input({ expects: { colour: 'red' } }), 'invalid_plan'],
    ['a wrong value', CREATE, () => input({ updates: { rolloutPercentage: 101 } }), 'invalid_plan'],
    ['an unknown guard', CREATE, () => input({ onConflict: 'ask' }), 'invalid_plan'],
    ['a guard of nothing', CREATE, () => input({ onConflict: 'keep' }), 'invalid_plan'],
    ['an unknown flag', CREATE, () => input({ flagKey: 'no-such' }), 'flag_not_found'],
    [
      'a past time',
      CREATE,
      () => ({ ...input(), startsAt: inMinutes(-5) }),
      'scheduled_at_in_past',
    ],
    ['an unknown plan', EDIT, () => ({ id: ID, title: 'T' }), 'plan_not_found'],
    ['no revision', EDIT, () => ({ id: ID, title: 'T', expectedRevision: 0 }), 'invalid_value'],
    ['an unknown plan to try', TRY, () => ({ id: ID }), 'plan_not_found'],
    ['a revert of nothing', REVERT, () => ({}), 'invalid_value'],
    ['a revert of two', REVERT, () => ({ planId: ID, scheduleId: ID }), 'invalid_value'],
    ['a revert of no span', REVERT, () => ({ environment: 'production' }), 'invalid_value'],
    ['a span of a plan', REVERT, () => ({ planId: ID, from: inMinutes(-9) }), 'invalid_value'],
  ])('%s is refused', async (_name, query, given, code) => {
    const before = await contentsOf(database);
    expect(await graphql().codeOf(query, { input: given() })).toBe(code);
    expect(await contentsOf(database)).toBe(before);
  });

  test.each([
    ['{ plans(condition: { status: "pending" }) { nodes { id } } }', 'invalid_value'],
    [
      '{ plans(condition: { environment: "prodction" }) { nodes { id } } }',
      'environment_not_found',
    ],
    ['{ plans(condition: { flagKey: null }) { nodes { id } } }', 'invalid_value'],
    ['{ plans(first: 101) { nodes { id } } }', 'invalid_value'],
    // 100 plans may have 20,000 changes.
    [
      '{ plans(first: 100) { nodes { steps { changes { flagKey environment onConflict updates { enabled } schedule { id status } } } } } }',
      'invalid_query',
    ],
  ])('%s is refused', async (query, code) => {
    expect(await graphql().codeOf(query)).toBe(code);
  });
});
