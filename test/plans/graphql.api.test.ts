import { describe, expect, test } from 'vitest';
import { makeRecorder } from '../../bench/statements.ts';
import { useDatabase, withClient } from '../support/database.ts';
import { insertFlag } from '../support/factory.ts';
import { inMinutes, useGraphql } from '../support/graphql.ts';
import { makeTestLog } from '../support/log.ts';
import { adminToken, auditorToken, viewerToken } from '../support/tokens.ts';

const database = useDatabase();
const graphql = useGraphql(database);
const asOwner = <T>(work: Parameters<typeof withClient<T>>[1]) =>
  withClient(database.ownerUrl, work);

const PLAN = `
  id title status statusReason reason startsAt contentHash environments occurrenceNo stepNo nextAt suspendedFor
  appliedCount skippedCount reverts createdBy createdAt updatedAt endedAt revision
  conflicts { flagKey environment field kind expected found at scheduleId planId }
  steps { changes {
    flagKey environment onConflict updates { enabled rolloutPercentage } expects { enabled rolloutPercentage }
    schedule { id status planId occurrenceNo stepNo }
  } }
  schedules { nodes { id } }`;
const CREATE = `mutation ($input: CreatePlanInput!) { createPlan(input: $input) { plan { ${PLAN} } } }`;
const EDIT = `mutation ($input: EditPlanInput!) { editPlan(input: $input) { plan { ${PLAN} } } }`;
const CANCEL = `mutation ($input: CancelPlanInput!) { cancelPlan(input: $input) { plan { ${PLAN} } } }`;
const RESUME = `mutation ($input: ResumeScheduleInput!) {
  resumeSchedule(input: $input) { featureFlagSchedule { status suspendedFor resolutionReason plan { suspendedFor } } }
}`;

interface Plan {
  readonly id: string;
  readonly revision: number;
  readonly contentHash: string;
  readonly schedules: { readonly nodes: readonly { readonly id: string }[] };
  readonly [field: string]: unknown;
}

/** A change of a new flag, as the input has it. */
async function newChange(overrides: object = {}, environment = 'production') {
  const { flag_key } = await asOwner((client) => insertFlag(client, { environment }));
  return { flagKey: flag_key, environment, updates: { enabled: true }, ...overrides };
}

async function create(changes: readonly object[], overrides: object = {}, token?: string) {
  const input = { title: 'Release', startsAt: inMinutes(60), steps: [{ changes }], ...overrides };
  const { createPlan } = await graphql().data<{ createPlan: { plan: Plan } }>(
    ...([CREATE, { input }] as const),
    token,
  );
  return createPlan.plan;
}

test('a plan is made, read, edited and cancelled', async () => {
  const guarded = await newChange({
    ...{ updates: { rolloutPercentage: 5 }, expects: { enabled: true }, onConflict: 'suspend' },
  });
  const plain = await newChange({}, 'staging');
  const plan = await create([guarded, plain], { reason: 'sales' });
  expect(plan).toMatchObject({
    ...{ title: 'Release', status: 'active', statusReason: null, reason: 'sales', revision: 1 },
    ...{ environments: ['production', 'staging'], occurrenceNo: 1, stepNo: 1, suspendedFor: null },
    ...{ appliedCount: 0, skippedCount: 0, reverts: null, createdBy: 'alice', endedAt: null },
    contentHash: expect.stringMatching(/^[0-9a-f]{64}$/) as string,
    conflicts: [
      {
        ...{ flagKey: guarded.flagKey, environment: 'production', field: 'enabled' },
        ...{ kind: 'expectation', expected: true, found: false, scheduleId: null, planId: null },
      },
    ],
    steps: [
      {
        changes: [
          {
            ...{ flagKey: guarded.flagKey, environment: 'production', onConflict: 'suspend' },
            ...{ updates: { enabled: null, rolloutPercentage: 5 } },
            expects: { enabled: true, rolloutPercentage: null },
            schedule: { status: 'pending', planId: plan.id, occurrenceNo: 1, stepNo: 1 },
          },
          { flagKey: plain.flagKey, onConflict: 'overwrite', expects: null },
        ],
      },
    ],
  });
  expect(plan.nextAt).toBe(plan.startsAt);
  expect(plan.schedules.nodes).toHaveLength(2);

  const query = `query ($id: UUID!) { plan(id: $id) { ${PLAN} } }`;
  for (const reader of [adminToken(), auditorToken()])
    expect(await graphql().data(query, { id: plan.id }, reader)).toEqual({ plan });
  const input = { id: plan.id, steps: [{ changes: [plain] }], expectedRevision: 1 };
  const { editPlan } = await graphql().data<{ editPlan: { plan: Plan } }>(EDIT, { input });
  expect(editPlan.plan).toMatchObject({ title: 'Release', revision: 2, environments: ['staging'] });
  expect(editPlan.plan.contentHash).not.toBe(plan.contentHash);
  const { errors } = await graphql().post(EDIT, { input });
  expect(errors?.[0]?.extensions).toMatchObject({
    ...{ code: 'plan_changed', current: { revision: 2, changedBy: 'alice@example.com' } },
  });
  const cancelled = await graphql().data(CANCEL, { input: { id: plan.id, reason: 'no' } });
  expect(cancelled).toMatchObject({
    cancelPlan: { plan: { status: 'cancelled', statusReason: 'no', nextAt: null } },
  });
  expect(await graphql().codeOf(CANCEL, { input: { id: plan.id } })).toBe('plan_state');
});

test('an edit that ends a suspension shows that it has ended', async () => {
  const plan = await create([await newChange()]);
  await asOwner((client) =>
    client.query(
      `update app_public.feature_flag_schedules set status = 'suspended', suspended_for = 'stop' where plan_id = $1`,
      [plan.id],
    ),
  );
  const query = `query ($id: UUID!) { plan(id: $id) { suspendedFor } }`;
  expect(await graphql().data(query, { id: plan.id })).toEqual({ plan: { suspendedFor: 'stop' } });
  const [row] = plan.schedules.nodes;
  expect(await graphql().data(RESUME, { input: { id: row?.id, reason: 'go on' } })).toEqual({
    resumeSchedule: {
      featureFlagSchedule: {
        ...{ status: 'pending', suspendedFor: null, resolutionReason: 'go on' },
        plan: { suspendedFor: null },
      },
    },
  });
});

test('the list is narrowed and ordered', async () => {
  const here = await newChange();
  const there = await newChange({}, 'staging');
  const late = await create([here, there], { startsAt: inMinutes(90) });
  const soon = await create([there]);
  const list = async (condition: string, token?: string) => {
    const { plans } = await graphql().data<{ plans: { nodes: Plan[] } }>(
      `{ plans(condition: { ${condition} }, orderBy: [NEXT_AT_ASC]) { nodes { id } } }`,
      {},
      token,
    );
    return plans.nodes.map(({ id }) => id);
  };
  expect(await list(`flagKey: "${there.flagKey}"`)).toEqual([soon.id, late.id]);
  expect(await list(`flagKey: "${here.flagKey}", environment: "production"`)).toEqual([late.id]);
  for (const both of [
    `flagKey: "${here.flagKey}", environment`,
    `flagKey: "${here.flagKey}" environment`,
  ])
    expect(await list(`${both}: "staging"`)).toEqual([]);
  expect(await list(`environment: "staging", flagKey: "${here.flagKey}"`)).toEqual([]);
  expect(await list('createdBy: "bob"')).toEqual([]);
  expect(await list('status: "active", environment: "production"')).toContain(late.id);
  const limited = await list('', adminToken({ environments: ['staging'] }));
  expect(limited).toContain(soon.id);
  expect(limited).not.toContain(late.id);
});

test('a page of plans with what is in them is one statement', async () => {
  const recorder = await makeRecorder(database.authenticatorUrl, makeTestLog().log);
  try {
    // The recorder refuses more than one.
    const { text } = await recorder.statementOf(
      '{ plans { nodes { suspendedFor steps { changes { flagKey } } conflicts { field } schedules { nodes { conflicts { field } } } } } }',
      {},
    );
    expect(text).toContain('plan_conflicts');
  } finally {
    await recorder.close();
  }
});

describe('an environment', () => {
  const STOP = `mutation ($name: String!, $reason: String!) {
    stopEnvironment(input: { name: $name, reason: $reason }) { environment { name stoppedAt stoppedBy stopReason lastResume } }
  }`;
  const GO_ON = `mutation ($input: ResumeEnvironmentInput!) {
    resumeEnvironment(input: $input) { environment { name stoppedAt stoppedBy stopReason lastResume } }
  }`;

  test('is stopped and resumed, and says who did it to all but viewers', async () => {
    const stopped = await graphql().data(STOP, { name: 'staging', reason: 'an incident' });
    const environment = {
      ...{ name: 'staging', stoppedAt: expect.any(String) as string, stoppedBy: 'alice' },
      ...{ stopReason: 'an incident', lastResume: null },
    };
    expect(stopped).toEqual({ stopEnvironment: { environment } });
    expect(await graphql().codeOf(STOP, { name: 'staging', reason: 'x' })).toBe(
      'environment_state',
    );
    const query = '{ environment(name: "staging") { stoppedAt stoppedBy stopReason } }';
    expect(await graphql().data(query, {}, auditorToken())).toMatchObject({
      environment: { stoppedBy: 'alice' },
    });
    expect(await graphql().codeOf(query, {}, viewerToken())).toBe('forbidden');
    const seen = await graphql().data(
      ...(['{ environment(name: "staging") { stoppedAt } }', {}, viewerToken()] as const),
    );
    expect(seen).toMatchObject({ environment: { stoppedAt: environment.stoppedAt } });
    const input = { name: 'staging', missed: 'apply', reason: 'mended' };
    expect(await graphql().data(GO_ON, { input })).toMatchObject({
      resumeEnvironment: {
        environment: { stoppedAt: null, lastResume: { by: 'alice', missed: 'apply' } },
      },
    });
  });
});

test('viewers have no plans, also by way of a schedule', async () => {
  const { schedules } = await create([await newChange()]);
  const id = schedules.nodes[0]?.id;
  for (const field of ['plan { title }', 'conflicts { field }'])
    expect(
      await graphql().codeOf(
        `query ($id: UUID!) { featureFlagSchedule(id: $id) { ...S } } fragment S on FeatureFlagSchedule { ${field} }`,
        ...([{ id }, viewerToken()] as const),
      ),
    ).toBe('forbidden');
  expect(
    await graphql().data(
      'query ($id: UUID!) { featureFlagSchedule(id: $id) { status planId onConflict expects { enabled } } }',
      ...([{ id }, viewerToken()] as const),
    ),
  ).toMatchObject({ featureFlagSchedule: { status: 'pending', onConflict: 'overwrite' } });
});
