import { describe, expect, test } from 'vitest';
import { value } from '../support/actors.ts';
import { contentsOf } from '../support/api.ts';
import { useDatabase, withClient } from '../support/database.ts';
import { insertSchedule } from '../support/factory.ts';
import { AT, bob, useRevisions } from '../support/revisions.ts';
import { adminToken, sign } from '../support/tokens.ts';

const database = useDatabase();
const { call, flag, graphql, patchFlag, refused } = useRevisions(database);

describe('the revision of a flag', () => {
  test('is in every answer, and grows with each change that the trail has', async () => {
    const changed = await patchFlag({ enabled: true });
    const same = await patchFlag({ enabled: true });
    const read = await call(`GET ${flag().path}`);
    expect([changed, same, read].map(({ body }) => body.revision)).toEqual([2, 2, 2]);
    const { data } = await graphql('query ($id: UUID!) { featureFlag(id: $id) { revision } }', {
      id: flag().id,
    });
    expect(data).toEqual({ featureFlag: { revision: 2 } });
  });

  test('guards a change: the one that was made against an older one learns who changed what', async () => {
    expect((await patchFlag({ rollout_percentage: 30, expected_revision: 1 }, bob())).status).toBe(
      200,
    );
    const change = { rollout_percentage: 25, expected_revision: 1 };
    const { detail, current } = await refused(`PATCH ${flag().path}`, change, 'flag_changed');
    expect(detail).toMatch(
      new RegExp(`^bob@example.com set 30 % ${AT}; your change was made against revision 1[.]$`),
    );
    expect(current).toEqual({
      revision: 2,
      changed_at: expect.stringMatching(/T.*\.\d{3}Z$/) as string,
      changed_by: 'bob@example.com',
    });
    expect((await patchFlag({ ...change, expected_revision: 2 })).body.revision).toBe(3);
  });

  test('guards a change that would change nothing, too', async () => {
    await patchFlag({ enabled: true }, bob());
    await refused(`PATCH ${flag().path}`, { enabled: true, expected_revision: 1 }, 'flag_changed');
  });

  test('lets one of many changes through that come at the same moment', async () => {
    const answers = await Promise.all(
      Array.from({ length: 12 }, (_, i) =>
        patchFlag({ rollout_percentage: i, expected_revision: 1 }),
      ),
    );
    const won = answers.filter(({ status }) => status === 200);
    expect(won.map(({ body }) => body.revision)).toEqual([2]);
    expect(answers.filter(({ body }) => body.code === 'flag_changed')).toHaveLength(11);
    const event = 'select count(*)::int from audit.events where flag_id = $1';
    await withClient(database.ownerUrl, async (client) => {
      expect(await value(client, event, [flag().id])).toBe(2);
    });
  });

  const sql = (text: string, url = database.ownerUrl) =>
    withClient(url, (client) => client.query(text, text.includes('$1') ? [flag().id] : []));
  const asNameless = (json: object) => patchFlag(json, sign({ role: 'admin' }));
  const asUser = (json: object) => patchFlag(json, sign({ role: 'admin', userId: 'carol' }));

  test.for<[string, string, string | null, () => Promise<unknown>]>([
    [
      'an admin with an id alone',
      'carol turned it on and set 5 %',
      'carol',
      () => asUser({ enabled: true, rollout_percentage: 5 }),
    ],
    [
      'an admin without a name',
      'An admin changed its description',
      null,
      () => asNameless({ description: 'x' }),
    ],
    [
      'SQL',
      'The database login halyard_owner turned it on',
      null,
      () => sql('update app_public.feature_flags set enabled = true where id = $1'),
    ],
    [
      'a schedule',
      'A schedule turned it on',
      null,
      () =>
        withClient(database.ownerUrl, async (client) => {
          await insertSchedule(client, flag().id, { dueIn: '-1 second' });
          await sql('select app_private.apply_due(10)', database.workerUrl);
        }),
    ],
  ])('names %s', async ([, sentence, changedBy, change]) => {
    await change();
    const json = { enabled: false, expected_revision: 1 };
    const { detail, current } = await refused(`PATCH ${flag().path}`, json, 'flag_changed');
    expect(detail.replace(new RegExp(` ${AT};.*`), '')).toBe(sentence);
    expect(current).toMatchObject({ revision: 2, changed_by: changedBy });
  });

  test('names no one where the event of the last change is missing', async () => {
    await patchFlag({ enabled: true }, bob());
    await sql('alter table app_public.feature_flags disable trigger _900_audit_update');
    await sql('update app_public.feature_flags set enabled = false where id = $1');
    await sql('alter table app_public.feature_flags enable always trigger _900_audit_update');
    const json = { enabled: false, expected_revision: 2 };
    const { detail, current } = await refused(`PATCH ${flag().path}`, json, 'flag_changed');
    expect(detail).toBe('It is at revision 3 now; your change was made against revision 2.');
    expect(current).toEqual({ revision: 3, changed_at: null, changed_by: null });
  });

  test('is expected by requests of the API only', async () => {
    await withClient(database.ownerUrl, async (client) => {
      await client.query('begin');
      await client.query(`select set_config('halyard.expected_revision', '99', true)`);
      await client.query('update app_public.feature_flags set enabled = true where id = $1', [
        flag().id,
      ]);
      await client.query('rollback');
    });
  });

  test('comes with the day of a change that was not today', async () => {
    const event = `jsonb_populate_record(null::audit.events,
      '{"occurred_at": "2026-01-02T03:04:05Z", "revision": 2, "actor_kind": "admin", "admin_user_id": "bob"}')`;
    const text = await withClient(database.ownerUrl, (client) =>
      value(client, `select app_private.stale_text(${event}, 'set 30 %', 2)`),
    );
    expect(text).toMatch(/^bob set 30 % at 2026-01-02 03:04 UTC; /);
  });

  test('is in no answer to a token of other environments', async () => {
    const token = adminToken({ environments: ['staging'] });
    const { status } = await patchFlag({ enabled: true, expected_revision: 9 }, token);
    expect(status).toBe(404);
  });

  test.for([0, -1, 1.5, '1', null, 1e300])('can’t be expected to be %j', async (expected) => {
    const { status, body } = await patchFlag({ enabled: true, expected_revision: expected });
    expect([status, body.code]).toEqual([400, 'invalid_request']);
    expect(body.errors?.[0]?.path).toBe('expected_revision');
  });

  test('alone is no change', async () => {
    expect((await patchFlag({ expected_revision: 1 })).status).toBe(400);
  });
});

describe('GraphQL', () => {
  const UPDATE = `mutation ($id: UUID!, $expected: Int, $on: Boolean!) {
    updateFeatureFlag(input: { id: $id, expectedRevision: $expected, patch: { enabled: $on } }) { featureFlag { revision } }
  }`;

  test('has the guard in its inputs, and the row’s revision in the extensions', async () => {
    await patchFlag({ rollout_percentage: 30 }, bob());
    const before = await contentsOf(database);
    const { errors } = await graphql(UPDATE, { id: flag().id, expected: 1, on: true });
    expect(errors).toEqual([
      expect.objectContaining({
        message: expect.stringMatching(
          /^bob@example\.com set 30 % at .* against revision 1\.$/,
        ) as string,
        extensions: {
          code: 'flag_changed',
          current: {
            revision: 2,
            changedAt: expect.stringMatching(/Z$/) as string,
            changedBy: 'bob@example.com',
          },
        },
      }),
    ]);
    expect(await contentsOf(database)).toBe(before);
    const { data } = await graphql(UPDATE, { id: flag().id, expected: 2, on: true });
    expect(data).toEqual({ updateFeatureFlag: { featureFlag: { revision: 3 } } });
  });

  test('guards each mutation of an operation by its own, or by none', async () => {
    const patch = (alias: string, on: boolean, guard = '') =>
      `${alias}: updateFeatureFlag(input: { id: "${flag().id}", patch: { enabled: ${String(on)} }${guard} }) { featureFlag { revision } }`;
    const { data } = await graphql(
      `mutation { ${patch('a', true, ', expectedRevision: 1')} ${patch('b', false)} ${patch('c', true, ', expectedRevision: 3')} }`,
    );
    expect(Object.values(data ?? {})).toEqual(
      [2, 3, 4].map((revision) => ({ featureFlag: { revision } })),
    );
  });

  test.for([0, null])('expects no %j', async (expected) => {
    const { errors } = await graphql(UPDATE, { id: flag().id, expected, on: true });
    expect(errors?.[0]?.extensions).toEqual({ code: 'invalid_value' });
  });
});
