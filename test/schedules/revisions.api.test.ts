import { beforeEach, describe, expect, test } from 'vitest';
import { contentsOf, inMinutes } from '../support/api.ts';
import { useDatabase, withClient } from '../support/database.ts';
import { insertSchedule } from '../support/factory.ts';
import { AT, bob, useRevisions } from '../support/revisions.ts';
import { adminToken } from '../support/tokens.ts';

const database = useDatabase();
const { call, flag, graphql, refused } = useRevisions(database);

describe('the revision of a schedule', () => {
  let schedule = '';
  const change = (method: string, json: object, token?: string) =>
    call(`${method} ${schedule}`, json, token);

  beforeEach(async () => {
    const json = { scheduled_at: inMinutes(60), updates: { enabled: true } };
    const { body } = await call(`POST ${flag().path}/schedule`, json);
    expect(body.revision).toBe(1);
    schedule = `${flag().path}/schedule/${body.id}`;
  });

  test('guards moves and cancels', async () => {
    const moved = await change(
      'PATCH',
      { scheduled_at: '2090-01-02T03:04:05Z', expected_revision: 1 },
      bob(),
    );
    expect([moved.status, moved.body.revision]).toEqual([200, 2]);
    const sentence = new RegExp(
      `^bob@example.com moved it to 2090-01-02 03:04 UTC ${AT}; your change was made against revision 1[.]$`,
    );
    const again = { scheduled_at: inMinutes(90), expected_revision: 1 };
    const refusals = [
      await refused(`PATCH ${schedule}`, again, 'schedule_changed'),
      await refused(`DELETE ${schedule}`, { expected_revision: 1 }, 'schedule_changed'),
    ];
    for (const { detail, current } of refusals) {
      expect(detail).toMatch(sentence);
      expect(current).toMatchObject({ revision: 2, changed_by: 'bob@example.com' });
    }
    const cancelled = await change('DELETE', { reason: 'later', expected_revision: 2 }, bob());
    expect([cancelled.status, cancelled.body.revision]).toEqual([200, 3]);
    // Who cancelled it says more than that it is cancelled.
    const { detail } = await refused(
      `PATCH ${schedule}`,
      { ...again, expected_revision: 2 },
      'schedule_changed',
    );
    expect(detail).toMatch(/^bob@example\.com cancelled it at /);
    await refused(`PATCH ${schedule}`, { ...again, expected_revision: 3 }, 'schedule_not_pending');
  });

  test('guards retries, which two admins send', async () => {
    const id = schedule.split('/').at(-1);
    await withClient(database.ownerUrl, (client) =>
      client.query(
        `update app_public.feature_flag_schedules set status = 'failed', error_message = 'x' where id = $1`,
        [id],
      ),
    );
    const retries = [bob(), adminToken()].map((token) =>
      call(`POST ${schedule}/retry`, { expected_revision: 2 }, token),
    );
    const answers = (await Promise.all(retries)).map(({ status, body }) =>
      status === 200 ? 'retried' : body.code,
    );
    expect(answers.toSorted()).toEqual(['retried', 'schedule_changed']);
    expect(
      await refused(`POST ${schedule}/retry`, { expected_revision: 2 }, 'schedule_changed'),
    ).toMatchObject({
      detail: expect.stringMatching(/ retried it at /) as string,
      current: { revision: 3 },
    });
  });

  test('guards GraphQL’s mutations, each', async () => {
    const { id } = await withClient(database.ownerUrl, (client) =>
      insertSchedule(client, flag().id),
    );
    const before = await contentsOf(database);
    for (const mutation of [
      'cancelFlagSchedule(input: { id: $id, expectedRevision: 7 })',
      'rescheduleFlagChange(input: { id: $id, expectedRevision: 7, scheduledAt: "2090-01-01T00:00:00Z" })',
      'retryFlagSchedule(input: { id: $id, expectedRevision: 7 })',
    ]) {
      const { errors } = await graphql(
        `mutation ($id: UUID!) { ${mutation} { clientMutationId } }`,
        { id },
      );
      expect(errors?.[0]?.extensions).toMatchObject({
        code: 'schedule_changed',
        current: { revision: 1, changedBy: null },
      });
    }
    expect(await contentsOf(database)).toBe(before);
    const cancel = `mutation ($id: UUID!) { cancelFlagSchedule(input: { id: $id, expectedRevision: 1 }) { featureFlagSchedule { revision } } }`;
    expect((await graphql(cancel, { id })).data).toEqual({
      cancelFlagSchedule: { featureFlagSchedule: { revision: 2 } },
    });
  });
});
