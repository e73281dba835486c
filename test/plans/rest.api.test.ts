import { describe, expect, test } from 'vitest';
import { z } from '../../src/lib/zod.ts';
import { dryRunSchema, planSchema, scheduleSchema } from '../../src/schemas.ts';
import { value } from '../support/actors.ts';
import { contentsOf, inMinutes, useApi } from '../support/api.ts';
import { useDatabase } from '../support/database.ts';
import { planIn, planWith, usePlans } from '../support/plans_by_rest.ts';
import { failPoint } from '../support/plans.ts';
import { adminToken, auditorToken, viewerToken } from '../support/tokens.ts';

const database = useDatabase();
const api = useApi(database);
const { asOwner, newChange, create } = usePlans(database, api);
const token = adminToken();

const ask = async (target: string, json?: object, as = token) =>
  api.call(target, { token: as, json });

test('a plan is made, found as it was sent, and can be sent again', async () => {
  const guarded = await newChange({ expects: { rollout_percentage: 100 }, on_conflict: 'suspend' });
  const body = {
    ...planWith(guarded, await newChange({ environment: 'staging' })),
    reason: ' Sales ',
  };
  const made = await ask('POST /api/admin/plans', body);
  expect(made.status).toBe(201);
  const plan = planSchema.parse(made.body);
  expect(plan).toMatchObject({
    ...{ title: 'Release', starts_at: body.starts_at, reason: 'Sales', steps: body.steps },
    ...{ status: 'active', occurrence_no: 1, step_no: 1, next_at: body.starts_at, revision: 1 },
    ...{ created_by: 'alice', approval: null, status_reason: null, suspended_for: null },
    ...{ reverts: null, ended_at: null },
  });
  const found = await ask(`GET ${made.headers.get('location') ?? ''}`, undefined, auditorToken());
  expect([found.status, found.body]).toEqual([200, { ...plan, conflicts: [] }]);
  const { title, starts_at, reason, steps } = planIn(found);
  const again = await create({ title, starts_at, reason, steps });
  expect(again.content_hash).toBe(plan.content_hash);
});

test('a plan without a time is due now', async () => {
  const plan = await create({ title: 'Now', steps: [{ changes: [await newChange()] }] });
  expect(plan).toMatchObject({ starts_at: null, reason: null, status: 'active' });
  expect(Date.parse(plan.next_at ?? '') - Date.parse(plan.created_at)).toBeLessThan(5_000);
});

test('the rows of a plan name it, and are the plan’s to change', async () => {
  const change = await newChange({ expects: { enabled: false }, on_conflict: 'keep' });
  const { id } = await create(planWith(change));
  const path = `/api/admin/flags/${change.flag_key}/schedule`;
  const { body } = await ask(`GET ${path}`);
  const [row, ...others] = body as unknown as [{ id: string }];
  expect(others).toEqual([]);
  expect(scheduleSchema.parse(row)).toMatchObject({
    ...{ plan_id: id, occurrence_no: 1, step_no: 1, status: 'pending' },
    ...{ expects: { enabled: false }, on_conflict: 'keep' },
  });
  for (const [target, json] of [
    [`DELETE ${path}/${row.id}`],
    [`PATCH ${path}/${row.id}`, { scheduled_at: inMinutes(90) }],
    [`POST ${path}/${row.id}/retry`],
  ] as const) {
    const answer = await ask(target, json);
    expect([answer.status, answer.body.code]).toEqual([409, 'belongs_to_plan']);
    expect(answer.body.detail).toContain(id);
  }
  const resumed = await ask(`POST ${path}/${row.id}/resume`, { reason: 'go on' });
  expect([resumed.status, resumed.body.code]).toEqual([409, 'schedule_not_suspended']);
});

test('an edit changes what it names, against the revision that its client saw', async () => {
  const [before, after] = [await newChange(), await newChange({ environment: 'staging' })];
  const { id } = await create(planWith(before));
  const path = `/api/admin/plans/${id}`;
  const starts_at = inMinutes(120);
  const moved = await ask(`PATCH ${path}`, { starts_at, reason: 'later', expected_revision: 1 });
  expect(planSchema.parse(moved.body)).toMatchObject({
    ...{ title: 'Release', starts_at, next_at: starts_at, reason: 'later', revision: 2 },
    steps: [{ changes: [before] }],
  });
  const stale = await ask(`PATCH ${path}`, { title: 'Stale', expected_revision: 1 });
  expect([stale.status, stale.body.code]).toEqual([409, 'plan_changed']);
  expect(stale.body.current).toMatchObject({ revision: 2, changed_by: 'alice@example.com' });
  const bob = adminToken({ userId: 'bob' });
  const edited = await ask(`PATCH ${path}`, { title: 'T', steps: [{ changes: [after] }] }, bob);
  expect(edited.body).toMatchObject({ title: 'T', steps: [{ changes: [after] }], starts_at });
});

test('a plan is cancelled once', async () => {
  const { id } = await create(planWith(await newChange()));
  const cancelled = await ask(`POST /api/admin/plans/${id}/cancel`, { reason: 'not now' });
  expect(planSchema.parse(cancelled.body)).toMatchObject({
    ...{ status: 'cancelled', status_reason: 'not now', next_at: null, occurrence_no: null },
    ended_at: expect.any(String) as string,
  });
  for (const [target, json] of [
    [`POST /api/admin/plans/${id}/cancel`],
    [`POST /api/admin/plans/${id}/retry`],
    [`PATCH /api/admin/plans/${id}`, { title: 'T' }],
  ] as const) {
    const answer = await ask(target, json);
    expect([target, answer.status, answer.body.code]).toEqual([target, 409, 'plan_state']);
  }
});

test('a plan whose changes failed says why, and is retried', async () => {
  const { id } = await create(planWith(await newChange()));
  await asOwner((client) => failPoint(client, id));
  const failed = await ask(`GET /api/admin/plans/${id}`);
  expect(failed.body).toMatchObject({
    status: 'paused',
    status_reason: expect.any(String) as string,
  });
  const retried = await ask(`POST /api/admin/plans/${id}/retry`);
  expect([retried.status, planIn(retried).status]).toEqual([200, 'active']);
});

test('a suspended plan says for what', async () => {
  const { id } = await create(planWith(await newChange()));
  await asOwner((client) =>
    client.query(
      `update app_public.feature_flag_schedules set status = 'suspended', suspended_for = 'stop' where plan_id = $1`,
      [id],
    ),
  );
  expect(planIn(await ask(`GET /api/admin/plans/${id}`)).suspended_for).toBe('stop');
  const moved = await ask(`PATCH /api/admin/plans/${id}`, { starts_at: inMinutes(90) });
  expect([moved.status, planIn(moved).suspended_for]).toEqual([200, null]);
});

test('what stands against a plan is known before it is due', async () => {
  const change = await newChange({ expects: { enabled: true }, on_conflict: 'suspend' });
  const { id } = await create(planWith({ ...change, updates: { rollout_percentage: 5 } }));
  const { conflicts } = planSchema.parse((await ask(`GET /api/admin/plans/${id}`)).body);
  expect(conflicts).toMatchObject([
    {
      ...{ flag_key: change.flag_key, environment: 'production', field: 'enabled' },
      ...{ kind: 'expectation', expected: true, found: false },
    },
  ]);
});

test('a plan is tried, as it is or edited, and is no conflict of its own', async () => {
  const change = await newChange({ expects: { rollout_percentage: 100 }, on_conflict: 'suspend' });
  const { id } = await create(planWith({ ...change, updates: { rollout_percentage: 5 } }));
  const path = `/api/admin/plans/${id}/dry-run`;
  const after = async (json?: object) => {
    const { changes, conflicts } = dryRunSchema.parse((await ask(`POST ${path}`, json)).body);
    expect(conflicts).toEqual([]);
    return changes.map((one) => one.after.rollout_percentage);
  };
  expect(await after()).toEqual([5]);
  const steps = [{ changes: [{ ...change, updates: { rollout_percentage: 6 } }] }];
  expect(await after({ steps, expected_revision: 1 })).toEqual([6]);
  const stale = await ask(`POST ${path}`, { title: 'T', expected_revision: 2 });
  expect([stale.status, stale.body.code]).toEqual([409, 'plan_changed']);
  expect((await ask(`POST ${path}`, { steps: [] })).body.code).toBe('invalid_plan');
});

describe('the list', () => {
  const list = async (query: string, as = token) => {
    const answer = await ask(`GET /api/admin/plans?${query}`, undefined, as);
    expect([answer.status, answer.text]).toEqual([200, expect.any(String)]);
    const plans = z.array(planSchema).parse(answer.body);
    return { ids: plans.map(({ id }) => id), link: answer.headers.get('link') };
  };

  test('comes newest first, by page, and is narrowed', async () => {
    const [here, there] = [await newChange(), await newChange({ environment: 'staging' })];
    const first = (await create(planWith(here))).id;
    const second = (await create(planWith(here, there))).id;
    const third = (await create(planWith(there))).id;
    await ask(`POST /api/admin/plans/${first}/cancel`);
    const page = await list('limit=2');
    expect(page.ids).toEqual([third, second]);
    const next = /^<\/api\/admin\/plans\?(.*)>; rel="next"$/.exec(page.link ?? '')?.[1];
    expect((await list(next ?? '')).ids[0]).toBe(first);
    expect((await list(`flag=${here.flag_key}`)).ids).toEqual([second, first]);
    expect((await list(`flag=${here.flag_key}&status=cancelled`)).ids).toEqual([first]);
    expect((await list('environment=staging')).ids.slice(0, 2)).toEqual([third, second]);
    // The second reaches staging, and changes this flag, but not there.
    expect((await list(`flag=${there.flag_key}&environment=staging`)).ids).toEqual([third, second]);
    const elsewhere = await ask(`GET /api/admin/plans?flag=${here.flag_key}&environment=staging`);
    expect(elsewhere.body.code).toBe('flag_not_found');
    const limited = await list('', adminToken({ environments: ['staging'] }));
    expect(limited.ids[0]).toBe(third);
    expect(limited.ids).not.toContain(second);
  });

  test.for<[query: string, status: number, code: string]>([
    ['environment=prodction', 404, 'environment_not_found'],
    ['flag=no-such-flag', 404, 'flag_not_found'],
    ['status=pending', 400, 'invalid_request'],
    ['limit=0', 400, 'invalid_request'],
    ['after=eA', 400, 'invalid_request'],
    ['titel=a', 400, 'invalid_request'],
  ])('of %s is refused', async ([query, status, code]) => {
    const answer = await ask(`GET /api/admin/plans?${query}`);
    expect([answer.status, answer.body.code]).toEqual([status, code]);
  });
});

describe('who may', () => {
  test('viewers may nothing, auditors read, and a token must reach all environments', async () => {
    const body = planWith(await newChange(), await newChange({ environment: 'staging' }));
    const { id } = await create(body);
    const plan = `/api/admin/plans/${id}`;
    const reads = ['GET /api/admin/plans', `GET ${plan}`] as const;
    const writes = [
      ['POST /api/admin/plans', body],
      ['POST /api/admin/plans/dry-run', body],
      ['POST /api/admin/changes', { changes: body.steps[0]?.changes }],
      [`PATCH ${plan}`, { title: 'T' }],
      [`POST ${plan}/dry-run`],
      [`POST ${plan}/cancel`],
      [`POST ${plan}/retry`],
      [`POST ${plan}/revert`],
      [`POST ${plan}/revert/dry-run`],
      ['POST /api/admin/environments/staging/stop', { reason: 'r' }],
      ['POST /api/admin/environments/staging/resume', { missed: 'skip', reason: 'r' }],
      ['POST /api/admin/environments/staging/resume/dry-run', { missed: 'skip' }],
      [
        'POST /api/admin/environments/staging/revert',
        { from: '2020-01-01T00:00:00Z', to: '2020-01-02T00:00:00Z' },
      ],
    ] as const;
    const before = await contentsOf(database);
    for (const reader of [viewerToken(), auditorToken()])
      for (const [target, json] of writes) {
        const answer = await ask(target, json, reader);
        expect([target, answer.status, answer.body.code]).toEqual([target, 403, 'forbidden']);
      }
    // The first ten of each user in a minute.
    const denied = () =>
      asOwner((client) =>
        value<string[]>(
          client,
          `select array_agg(concat(metadata ->> 'operation', ' ', environment))
           from audit.events where event_type = 'access.denied' and admin_user_id = 'victor'`,
        ),
      );
    await expect
      .poll(denied)
      .toEqual(
        expect.arrayContaining([
          'POST /api/admin/plans ',
          'POST /api/admin/plans/:planId/cancel ',
          'POST /api/admin/environments/:name/stop staging',
        ]),
      );
    for (const target of reads) {
      expect((await ask(target, undefined, viewerToken())).body.code).toBe('forbidden');
      expect((await ask(target, undefined, auditorToken())).status).toBe(200);
    }
    const elsewhere = adminToken({ environments: ['production'] });
    for (const [target, json] of [
      [`GET ${plan}`],
      [`PATCH ${plan}`, { title: 'T' }],
      [`POST ${plan}/dry-run`],
      [`POST ${plan}/cancel`],
      [`POST ${plan}/retry`],
    ] as const) {
      const answer = await ask(target, json, elsewhere);
      expect([target, answer.body.code]).toEqual([target, 'plan_not_found']);
    }
    expect((await ask('POST /api/admin/plans', body, elsewhere)).body.code).toBe(
      'environment_not_found',
    );
    expect(await contentsOf(database)).toBe(before);
  });
});
