import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import type pg from 'pg';
import { afterAll, beforeAll, describe, expect, inject, test, vi } from 'vitest';
import { value } from '../../support/actors.ts';
import { useDatabase, withClient } from '../../support/database.ts';
import { insertFlag, insertSchedule } from '../../support/factory.ts';
import { loginUrl } from '../../support/migrated.ts';
import { become } from '../../support/roles.ts';
import { makeFlags, askAsAdmins, applyAndFail } from '../../support/auditor_story.ts';

const database = useDatabase();
const DBA = `halyard_test_dba_${randomBytes(4).toString('hex')}`;

const PAGE = await readFile(new URL('../../../docs/queries.md', import.meta.url), 'utf8');

/** The page's queries by the comment that heads each. */
const QUERIES = new Map(
  [...PAGE.matchAll(/```sql\n-- (.*)\n([^`]*)```/g)].map(([, title = '', sql = '']) => [
    title,
    sql,
  ]),
);

/** What the queries are expected to answer, in order; the columns that are left out differ from run to run. */
const ANSWERS: Record<string, object[]> = {
  'the history of a flag': [
    { event_type: 'feature_flag.created', actor_kind: 'database', before: null },
    { event_type: 'flag_schedule.created', admin_user_id: 'alice', after: { enabled: true } },
    { event_type: 'flag_schedule.created', admin_user_id: 'alice' },
    { event_type: 'flag_schedule.cancelled', admin_user_id: 'alice' },
    { event_type: 'flag_schedule.cancelled', admin_user_id: 'bob' },
    { event_type: 'flag_schedule.created', actor_kind: 'database' },
    { event_type: 'feature_flag.updated', before: { enabled: false }, after: { enabled: true } },
    { event_type: 'flag_schedule.applied', actor_kind: 'system' },
  ],
  'the incarnations of the trail, and how far the lost history before each went': [
    { incarnation_no: 1, first_seal: '0', first_seq: '1', reason: null, lost_to_seal: null },
  ],
  'how late, by day': [{ environment: 'production', applied: '1', over_one_second: '1' }],
  'cancelled by others, or in SQL': [
    { flag_key: 'wishlist-gallery', created_by: 'alice', cancelled_by: 'bob', reason: 'too early' },
  ],
  'failed, and nothing has been done about it': [
    { flag_key: 'broken', error_message: 'the flag is broken' },
  ],
  'who created what': [
    { flag_key: 'broken', admin_user_id: null },
    { flag_key: 'wishlist-gallery', admin_user_id: null },
    { flag_key: 'wishlist-gallery', admin_user_id: 'alice', updates: { rollout_percentage: 50 } },
    {
      environment: 'production',
      flag_key: 'wishlist-gallery',
      admin_user_id: 'alice',
      admin_email: 'alice@example.com',
      scheduled_at: expect.stringMatching(/Z$/) as unknown,
      updates: { enabled: true },
    },
  ],
  'who cancelled what': [
    { admin_user_id: 'bob', admin_email: 'bob@example.com', reason: 'too early' },
    { admin_user_id: 'alice', reason: 'manual_cancellation' },
  ],
  'cancelled by another than created': [
    { flag_key: 'wishlist-gallery', created_by: 'alice', cancelled_by: 'bob' },
  ],
  'the life of each schedule of a flag': [
    { event_type: 'flag_schedule.created', admin_user_id: 'alice' },
    { event_type: 'flag_schedule.cancelled', admin_user_id: 'alice' },
    { event_type: 'flag_schedule.created', admin_user_id: 'alice' },
    { event_type: 'flag_schedule.cancelled', admin_user_id: 'bob' },
    { event_type: 'flag_schedule.created', actor_kind: 'database' },
    { event_type: 'feature_flag.updated', actor_kind: 'system' },
    { event_type: 'flag_schedule.applied', actor_kind: 'system' },
  ],
  'every state that a flag has been in': [
    { event_type: 'feature_flag.created', before: null, after: { enabled: false } },
    {
      event_type: 'feature_flag.updated',
      actor_kind: 'system',
      before: { enabled: false },
      after: { enabled: true },
    },
  ],
  'applied more than a second late': [{ flag_key: 'wishlist-gallery', environment: 'production' }],
  'failed for good': [{ flag_key: 'broken', error: 'the flag is broken', attempts: 1 }],
  'events that could not be written (normally empty)': [{ error_code: '42P01' }],
  'changes whose events are lost': [
    { event_type: 'feature_flag.reconciled', flag_key: 'lost', revisions: [1] },
  ],
  'what a person must act on, or should look at, by type': [
    { event_type: 'flag_schedule.failed', level: 'error', events: '1' },
    ...['access.denied', 'audit.cursor_moved', 'feature_flag.reconciled'].map((event_type) => ({
      ...{ event_type, level: 'warning', events: '1', description: expect.any(String) as unknown },
    })),
  ],
  'cursors that jumped: a copy may lack the events between': [
    {
      ...{ event_type: 'audit.cursor_moved', database_user: 'halyard_owner' },
      ...{ destination: 'stdout', before: '0', after: '3' },
    },
  ],
  'changes by SQL, past the API': [
    { event_type: 'audit.cursor_moved', database_user: 'halyard_owner' },
    { event_type: 'flag_schedule.created', flag_key: 'broken', database_user: 'halyard_owner' },
    { event_type: 'flag_schedule.created', application_name: 'halyard test' },
    { event_type: 'feature_flag.created', flag_key: 'broken' },
    { event_type: 'feature_flag.created', flag_key: 'wishlist-gallery' },
  ],
  'denied attempts, by user': [
    { admin_user_id: 'victor', role: 'viewer', denied: '1', operations: ['PATCH /x'] },
  ],
  'what flags are on now, and what will change them next': [
    ...[{ flag_key: 'broken' }, { flag_key: 'lost' }, { flag_key: 'untold' }].map((flag) => ({
      ...{ ...flag, enabled: false, scheduled_at: null },
    })),
    { flag_key: 'wishlist-gallery', enabled: true, scheduled_at: null },
  ],
  'which environments there are, and who made or deleted one': [
    { event_type: 'environment.created', environment: 'qa', admin_user_id: 'carol' },
  ],
  'what one admin did, with the requests that did it': [
    { event_type: 'flag_schedule.created', request_id: 'request-1' },
    { event_type: 'flag_schedule.created', request_id: 'request-2' },
    { event_type: 'flag_schedule.cancelled', request_id: 'request-3' },
  ],
  'how everything stands in the morning': [
    { flag_key: 'broken', enabled: false, certain: true, sources: {} },
    { flag_key: 'lost', enabled: false },
    { flag_key: 'untold', enabled: false },
    { flag_key: 'wishlist-gallery', enabled: true, rollout_percentage: 100 },
  ],
  'what changes tonight, and what each change leaves': [],
  'how everything stood an hour ago': [],
  'what became of a plan, and of each flag by it': [],
  'stops of environments, the latest first, and what they kept from being applied': [],
  'schedules that wait for an admin, and why': [],
  'the numbered trail': Array.from({ length: 13 }, (_, i) => ({
    seq: String(i + 1),
    message: expect.stringContaining(`, "seq": ${i + 1}, `) as unknown,
  })),
};

/** The same on call, later. */
const AT_NIGHT: Record<string, object[]> = {
  'why is this off, and who wanted that': [
    {
      ...{ requested_by: 'pete', reason: 'the bank is in maintenance', actor_kind: 'system' },
      ...{ before: { enabled: true }, after: { enabled: false } },
    },
  ],
  'what changes tonight': [
    {
      ...{ environment: 'production', flag_key: 'checkout', updates: { enabled: true } },
      ...{ requested_by: 'olga', reason: 'it is over by then' },
    },
    { flag_key: 'search', requested_by: 'pete', reason: null },
    { flag_key: 'search', requested_by: 'olga' },
  ],
  'who is asked for most of it': [
    { requested_by: 'olga', changes: '2', flags: ['production/checkout', 'staging/search'] },
    { requested_by: 'pete', changes: '1', flags: ['staging/search'] },
  ],
  'what happened at 09:00': [
    { event_type: 'flag_schedule.created', requested_by: 'olga', after: { enabled: false } },
    { event_type: 'flag_schedule.rescheduled', requested_by: 'pete' },
    ...['flag_schedule.created', 'flag_schedule.created', 'flag_schedule.created'].map(
      (event_type) => ({ event_type }),
    ),
    { event_type: 'feature_flag.updated', flag_key: 'checkout', requested_by: 'pete' },
    { event_type: 'flag_schedule.applied', flag_key: 'checkout', requested_by: null },
  ],
  'what is waiting though its time has come, and why': [
    { flag_key: 'broken', attempts: 1, error_message: 'the flag is broken', requested_by: null },
  ],
  'what failed and why, and whom to ask': [
    { flag_key: 'broken', error_message: 'the flag is broken', attempts: 1 },
  ],
};

beforeAll(async () => {
  await withClient(database.rootUrl, (client) =>
    client.query(
      `create role ${DBA} login password ${client.escapeLiteral(inject('password'))}; grant halyard_auditor to ${DBA}`,
    ),
  );
  await withClient(database.ownerUrl, makeFlags);
  await withClient(database.authenticatorUrl, askAsAdmins);
  await withClient(database.ownerUrl, (client) => applyAndFail(database, client));
  await withClient(database.authenticatorUrl, (client) =>
    client.query(
      `select set_config('jwt.claims.user_id', 'victor', false), set_config('jwt.claims.role', 'viewer', false),
         app_private.record_denial('PATCH /x', 'forbidden')`,
    ),
  );
});

afterAll(async () => {
  await withClient(database.rootUrl, (client) =>
    client.query(`drop owned by ${DBA}; drop role ${DBA}`),
  );
});

test('the page has the queries that are answered here, and no others', () => {
  expect([...QUERIES.keys()].toSorted()).toEqual(
    [...Object.keys(ANSWERS), ...Object.keys(AT_NIGHT)].toSorted(),
  );
  expect(PAGE.split('```sql').length - 1).toBe(QUERIES.size);
});

test.for(Object.entries(ANSWERS))('a DBA asks: %s', async ([title, expected]) => {
  const url = loginUrl(inject('rootUrl'), DBA, inject('password'), database.name);
  const rows = await withClient(url, async (client) => {
    const result = await client.query<Record<string, unknown>>(QUERIES.get(title) ?? '');
    return result.rows;
  });
  expect(rows).toMatchObject(expected);
  expect(rows).toHaveLength(expected.length);
});

test('and changes nothing, nor reads anything else', async () => {
  const url = loginUrl(inject('rootUrl'), DBA, inject('password'), database.name);
  await withClient(url, async (client) => {
    for (const sql of [
      'delete from audit.events',
      'select from audit.cursors',
      'update app_public.feature_flags set enabled = true',
      'delete from app_public.environments',
      'select from app_private.settings',
      'select app_private.apply_due()',
    ])
      await expect(client.query(sql), sql).rejects.toMatchObject({ code: '42501' });
  });
});

describe('at night', () => {
  let from = '';
  let to = '';

  beforeAll(async () => {
    const now = (client: pg.Client) => value<string>(client, 'select clock_timestamp()::text');
    await withClient(database.ownerUrl, async (client) => {
      await insertFlag(client, { flag_key: 'checkout', enabled: true });
      await insertFlag(client, { flag_key: 'search', environment: 'staging' });
      const broken = `select id from app_public.feature_flags where flag_key = 'broken'`;
      await insertSchedule(client, await value(client, broken), { dueIn: '-1 minute' });
      from = await now(client);
    });
    await withClient(database.authenticatorUrl, scheduleTheNight);
    await withClient(database.workerUrl, async (worker) => {
      const applied = () =>
        value<number>(worker, 'select applied from app_private.apply_due()', []);
      await vi.waitFor(async () => expect(await applied()).toBe(1), 10_000);
      to = await now(worker);
    });
  });

  /** Olga schedules what Pete moves to now, and three changes more. */
  async function scheduleTheNight(client: pg.Client): Promise<void> {
    const as = async (userId: string, reason: string, sql: string) => {
      await client.query('begin');
      await become(client, 'admin', { userId, reason });
      const id = await value<string>(client, sql, [reason]);
      await client.query('commit');
      return id;
    };
    const schedule = (flag: string, environment: string, hours: number, updates: string) =>
      `select id from app_public.schedule_flag_change(
         '${flag}', '${environment}', now() + interval '${hours} hours', '${updates}', $1)`;
    const off = schedule('checkout', 'production', 1, '{"enabled": false}');
    const id = await as('olga', 'the bank is in maintenance', off);
    const soon = `clock_timestamp() + interval '100 ms'`;
    await as(
      ...(['pete', ''] as const),
      `select id from app_public.reschedule_flag_change('${id}', ${soon}, $1)`,
    );
    const on = schedule('checkout', 'production', 3, '{"enabled": true}');
    await as('olga', 'it is over by then', on);
    await as('pete', '', schedule('search', 'staging', 4, '{"enabled": true}'));
    await as('olga', '', schedule('search', 'staging', 5, '{"rollout_percentage": 50}'));
  }

  test.for(Object.entries(AT_NIGHT))('one on call asks: %s', async ([title, expected]) => {
    const sql = QUERIES.get(title) ?? '';
    const url = loginUrl(inject('rootUrl'), DBA, inject('password'), database.name);
    const rows = await withClient(url, async (client) => {
      const asked = sql.replace('2026-11-02 09:00:00Z', from).replace('2026-11-02 09:05:00Z', to);
      return (await client.query<Record<string, unknown>>(asked)).rows;
    });
    expect(rows).toMatchObject(expected);
    expect(rows).toHaveLength(expected.length);
  });
});
