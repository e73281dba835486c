import { describe, expect, it } from 'vitest';
import { startGraphql, useGraphql } from '../support/graphql.ts';
import { useDatabase } from '../support/database.ts';
import { sign } from '../support/tokens.ts';

const database = useDatabase();
const api = useGraphql(database);

const QUERY = '{ featureFlags(first: 1) { nodes { id } } }';

describe('documents', () => {
  it.each([
    ['a syntax error', '{ featureFlags {'],
    ['an unknown field', '{ flags { id } }'],
    ['an unknown mutation', 'mutation { deleteFeatureFlag(input: {}) { clientMutationId } }'],
    ['an empty document', ''],
    ['two operations and no name', 'query A { __typename } query B { __typename }'],
    [
      'an unknown field of a condition',
      '{ featureFlags(condition: { flagKy: "a" }) { totalCount } }',
    ],
    ['a subscription by HTTP', 'subscription { auditEventsAdded { truncated } }'],
  ])('with %s are invalid_query with status 400', async (_name, query) => {
    const answer = await api().post(query);
    expect(answer.status).toBe(400);
    expect(answer.errors?.[0]?.extensions.code).toBe('invalid_query');
    expect(answer.data).toBeUndefined();
  });

  it.each([
    [
      'the condition',
      'query ($value: FeatureFlagCondition) { featureFlags(condition: $value) { totalCount } }',
      { flagKy: 'a' },
    ],
    [
      'a list in a list',
      'query ($value: FeatureFlagScheduleCondition) { featureFlags { nodes { schedules(condition: $value) { totalCount } } } }',
      { flagID: null },
    ],
  ])(
    'with an unknown field of a condition in a variable are invalid_query: %s',
    async (_name, query, value) => {
      expect(await api().codeOf(query, { value })).toBe('invalid_query');
    },
  );

  it.each([
    [
      'featureFlagSchedules',
      'status',
      'pendign',
      'pending, suspended, applied, failed, cancelled, skipped',
    ],
    [
      'featureFlagSchedules',
      'status',
      'PENDING',
      'pending, suspended, applied, failed, cancelled, skipped',
    ],
    ['auditEvents', 'eventType', 'flag_schedule.aplied', 'of flag_schedule there are created'],
    ['auditEvents', 'level', 'warn', 'info, warning, error'],
    [
      'auditEvents',
      'eventTypePattern',
      'flag_schedule.aplied*',
      'of flag_schedule there are created',
    ],
    ['auditEvents', 'eventTypePattern', 'flags.*', 'the kinds are'],
    ['auditEvents', 'actorKind', 'robot', 'admin, system, database, worker'],
  ])('of %s by a %s that there isn’t are refused: %s', async (field, name, value, hint) => {
    const literal = `{ ${field}(condition: { ${name}: "${value}" }) { nodes { id } } }`;
    const variable = `query ($value: String) { ${field}(condition: { ${name}: $value }) { nodes { id } } }`;
    for (const [query, variables] of [
      [literal, {}],
      [variable, { value }],
    ] as const) {
      const { errors, data } = await api().post(query, variables);
      expect([errors?.[0]?.extensions.code, data]).toEqual(['invalid_value', undefined]);
      expect(errors?.[0]?.message).toContain(hint);
    }
  });

  it.each([
    ['featureFlagSchedules', 'status'],
    ['auditEvents', 'eventType'],
    ['auditEvents', 'eventTypePattern'],
    ['auditEvents', 'actorKind'],
    ['auditEvents', 'level'],
  ])('of %s by a %s of null are refused, and of none are not', async (field, name) => {
    const query = `query ($value: String) { ${field}(condition: { ${name}: $value }) { nodes { id } } }`;
    expect(await api().codeOf(query, { value: null })).toBe('invalid_value');
    expect((await api().post(query, {})).errors).toBeUndefined();
  });

  it('get status 200 for the same under plain JSON', async () => {
    const answer = await api().post('{ flags }', {}, { headers: { accept: 'application/json' } });
    expect(answer.status).toBe(200);
    expect(answer.headers.get('content-type')).toContain('application/json');
    expect(answer.errors?.[0]?.extensions.code).toBe('invalid_query');
  });

  it('run the operation that is named', async () => {
    const answer = await api().post(
      'query A { a: __typename } query B { b: __typename }',
      {},
      { operationName: 'B' },
    );
    expect(answer.data).toEqual({ b: 'Query' });
  });

  it('get 200 and partial data when one field fails', async () => {
    const id = 'b3f7a1de-0000-4000-8000-000000000000';
    const answer = await api().post(
      `mutation { a: cancelFlagSchedule(input: { id: "${id}" }) { clientMutationId } }`,
    );
    expect(answer.status).toBe(200);
    expect(answer.data).toEqual({ a: null });
    expect(answer.errors?.[0]).toMatchObject({
      path: ['a'],
      extensions: { code: 'schedule_not_found' },
    });
  });
});

/** A document that no cache has seen, and that takes some 50 ms to plan. */
const unseen = (n: number) =>
  `{ ${Array.from({ length: 6 }, (_, i) => `x${n}_${i}: featureFlags(first: 1) { nodes { schedules(first: 1) { nodes { flag { schedules(first: 1) { nodes { id } } } } } } }`).join(' ')} }`;

describe('planning', () => {
  it('is handed out by user: many unseen documents of one hold up no other', async () => {
    let planned = 0;
    const token = sign({ role: 'viewer', userId: 'vera' });
    const flood = Array.from({ length: 24 }, (_, n) =>
      api()
        .post(unseen(n), {}, { token })
        .finally(() => (planned += 1)),
    );
    await api().data(unseen(100), {}, sign({ role: 'viewer', userId: 'walter' }));
    // His came last, and its turn second or third.
    expect(planned).toBeLessThan(12);
    for (const { errors } of await Promise.all(flood)) expect(errors).toBeUndefined();
  });

  it('is waited for by so many operations of a user, and the next is refused', async () => {
    const limited = await startGraphql(database, { queuePerUser: 3 });
    try {
      const flood = Array.from({ length: 12 }, (_, n) => limited.post(unseen(n)));
      const bob = limited.post(QUERY, {}, { token: sign({ role: 'viewer', userId: 'bob' }) });
      const refused = (await Promise.all(flood)).filter(({ errors }) => errors !== undefined);
      expect(refused.length).toBeGreaterThan(0);
      for (const { status, errors, data, headers } of refused) {
        expect([status, errors?.[0]?.extensions.code]).toEqual([429, 'too_many_requests']);
        expect([data, headers.get('retry-after')]).toEqual([undefined, '1']);
      }
      expect((await bob).errors).toBeUndefined();
    } finally {
      await limited.close();
    }
  });
});
