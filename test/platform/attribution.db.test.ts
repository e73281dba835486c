import { randomBytes } from 'node:crypto';
import pg from 'pg';
import { afterAll, beforeAll, beforeEach, describe, expect, inject, test } from 'vitest';
import { value } from '../support/actors.ts';
import { useDatabase, withClient } from '../support/database.ts';
import { insertFlag } from '../support/factory.ts';
import { loginUrl } from '../support/migrated.ts';
import { reconcileAs } from '../support/reconcile.ts';
import { deadLetters, queuedEvents, type TrailEvent } from '../support/trail.ts';
import { FOREIGN, forged } from '../support/forged.ts';

const database = useDatabase();
const DBA = `halyard_test_dba_${randomBytes(4).toString('hex')}`;
const ROLES = ['admin', 'viewer', 'auditor'] as const;
const CLAIMED = {
  userId: 'alice',
  email: 'alice@example.com',
  role: 'admin',
  requestId: 'forged-request',
  reason: 'forged',
};

beforeAll(async () => {
  await withClient(database.rootUrl, async (root) => {
    await root.query(
      `create role ${DBA} login password ${pg.escapeLiteral(inject('password'))} in role halyard_admin, halyard_viewer, halyard_auditor`,
    );
    // Temporary objects are more than a DBA gets.
    await root.query(`grant connect, temporary on database ${database.name} to ${DBA}`);
  });
});
afterAll(async () => {
  await withClient(database.rootUrl, async (root) => {
    await root.query(`drop owned by ${DBA}`);
    await root.query(`drop role ${DBA}`);
  });
});

/** The events since the beginning of a test. */
let known: ReadonlySet<string>;
const events = async (): Promise<TrailEvent[]> =>
  (await withClient(database.ownerUrl, queuedEvents)).filter(({ id }) => !known.has(id));
beforeEach(async () => {
  known = new Set();
  known = new Set((await events()).map(({ id }) => id));
});

/** Works with a DBA's own login in one of its roles, with these settings for the whole session. */
async function asDba<T>(
  role: (typeof ROLES)[number],
  settings: Readonly<Record<string, string>>,
  work: (client: pg.Client) => Promise<T>,
): Promise<T> {
  const url = loginUrl(inject('rootUrl'), DBA, inject('password'), database.name);
  return withClient(url, async (client) => {
    await client.query(`set role halyard_${role}`);
    for (const [name, text] of Object.entries(settings))
      await client.query('select set_config($1, $2, false)', [name, text]);
    return work(client);
  });
}

const newFlag = () => withClient(database.ownerUrl, (client) => insertFlag(client));

/** Everything that an admin can do by SQL. @returns the schedule's id */
async function changeAll(client: pg.Client, flagKey: string): Promise<string> {
  await client.query(`insert into app_public.feature_flags (flag_key) values ($1)`, [
    `${flagKey}-2`,
  ]);
  await client.query(
    `update app_public.feature_flags set enabled = not enabled where flag_key = $1`,
    [flagKey],
  );
  const id = await value<string>(
    client,
    `select id from app_public.schedule_flag_change($1, null, now() + interval '1 hour', '{"enabled": true}')`,
    [flagKey],
  );
  await client.query(
    `select from app_public.reschedule_flag_change($1, now() + interval '2 hours')`,
    [id],
  );
  await client.query('select from app_public.cancel_flag_schedule($1)', [id]);
  return id;
}

describe('a DBA with halyard_admin', () => {
  test('makes events of its login and empty stamps, also when it claims to be another', async () => {
    const flag = await newFlag();
    const id = await asDba('admin', forged(flag.id), (client) => changeAll(client, flag.flag_key));
    const made = (await events()).filter(({ database_user }) => database_user === DBA);
    expect(made.map(({ event_type }) => event_type)).toEqual([
      'feature_flag.created',
      'feature_flag.updated',
      'flag_schedule.created',
      'flag_schedule.rescheduled',
      'flag_schedule.cancelled',
    ]);
    for (const event of made) {
      expect(event).toMatchObject({
        actor_kind: 'database',
        admin_user_id: null,
        admin_email: null,
        request_id: null,
        client_request_id: null,
        metadata: { claimed: CLAIMED },
      });
      expect(event.metadata).not.toHaveProperty('adminUserId');
      if (event.event_type !== 'flag_schedule.cancelled')
        expect(event.metadata).not.toHaveProperty('reason');
      expect(event.schedule_id).toBe(event.event_type.startsWith('flag_schedule.') ? id : null);
    }
    await withClient(database.ownerUrl, async (client) => {
      const { rows } = await client.query(
        'select created_by, cancelled_by, requested_by from app_public.feature_flag_schedules where id = $1',
        [id],
      );
      expect(rows).toEqual([{ created_by: null, cancelled_by: null, requested_by: null }]);
      const changes = await client.query<{ event_type: string; claimed: object }>(
        'select event_type, claimed from audit.manual_changes where database_user = $1',
        [DBA],
      );
      expect(changes.rows).toHaveLength(made.length);
      for (const { claimed } of changes.rows) expect(claimed).toEqual(CLAIMED);
    });
  });

  test.each([
    ['no JSON', { 'halyard.applying': 'no json' }],
    ['JSON of another kind', { 'halyard.applying': '{"a": [1]}' }],
    [
      'megabytes',
      Object.fromEntries(
        [
          ...['halyard.applying', 'halyard.request_id', 'halyard.reason'],
          ...['jwt.claims.user_id', 'jwt.claims.email'],
        ].map((name) => [name, 'x'.repeat(3_000_000)]),
      ),
    ],
  ])('leaves no dead letter and a small event with settings of %s', async (_, settings) => {
    const flag = await newFlag();
    await asDba('admin', { ...forged(flag.id), ...settings }, (client) =>
      changeAll(client, flag.flag_key),
    );
    const made = (await events()).filter(({ database_user }) => database_user === DBA);
    expect(made).toHaveLength(5);
    for (const { payload } of made) expect(payload.length).toBeLessThan(3_000);
    expect(await withClient(database.ownerUrl, deadLetters)).toEqual([]);
  });

  test('is no one else after a replayed dead letter either', async () => {
    const flag = await newFlag();
    const owner = (sql: string) => withClient(database.ownerUrl, (client) => client.query(sql));
    // The one letter has the event, the other the rows that it is to be made of.
    for (const [broken, whole] of [
      ['alter table audit.events rename to away', 'alter table audit.away rename to events'],
      [
        'alter function app_private.incarnation() rename to away',
        'alter function app_private.away() rename to incarnation',
      ],
    ] as const) {
      await owner(broken);
      await asDba('admin', forged(flag.id), (client) =>
        client.query('update app_public.feature_flags set enabled = not enabled where id = $1', [
          flag.id,
        ]),
      );
      await owner(whole);
    }
    const letters = await withClient(database.ownerUrl, deadLetters);
    expect(letters.map(({ content }) => content.events === null)).toEqual([false, true]);
    expect(await reconcileAs(database, 'dead_letters')).toMatchObject({ fromLetters: 2 });
    const replayed = (await events()).filter(({ reconciled }) => reconciled);
    expect(replayed).toHaveLength(2);
    for (const event of replayed)
      expect(event).toMatchObject({
        event_type: 'feature_flag.updated',
        actor_kind: 'database',
        database_user: DBA,
        admin_user_id: null,
        request_id: null,
        schedule_id: null,
        metadata: { claimed: CLAIMED },
      });
  });

  test('can’t take the place of what the trail is made with', async () => {
    const flag = await newFlag();
    await asDba('admin', forged(flag.id), async (client) => {
      // As itself: a member has the role's rights.
      await client.query(`
        reset role;
        create temp table events (like app_public.feature_flags);
        create temp table feature_flags (like app_public.feature_flags);
        create function pg_temp.current_setting(text, boolean) returns text language sql return 'system';
        create function pg_temp.pg_has_role(name, name, text) returns boolean language sql return true;
      `);
      await client.query('set search_path to pg_temp, pg_catalog');
      await client.query(
        'update app_public.feature_flags set enabled = not enabled where id = $1',
        [flag.id],
      );
    });
    const made = (await events()).filter(({ database_user }) => database_user === DBA);
    expect(made).toMatchObject([{ actor_kind: 'database', schedule_id: null }]);
  });
});

describe.each(ROLES)('a DBA with halyard_%s', (role) => {
  const refused: Record<string, string> = {
    'record an export': `select audit.record_export('csv', '{}', false)`,
    'record a denial': `select app_private.record_denial('GET /x', 'forbidden')`,
    'make the counts of denials events': 'select app_private.record_denial_counts()',
    'write an event': `insert into audit.events select * from audit.events limit 1`,
    'put one into the queue': `insert into audit.queue (event_id, occurred_at) values (gen_random_uuid(), now())`,
    'make an event': `select app_private.write_events('{}')`,
    'mark events as reconciled': `select app_private.write_reconciled_events('{}')`,
    'bring a letter into the trail': `select app_private.reconcile_audit('dead_letters')`,
    'write a letter': `insert into audit.dead_letters (content, error_code, error_message) values ('{}', 'XX000', '')`,
    'apply schedules': 'select app_private.apply_due()',
    'say who created': `insert into app_public.feature_flag_schedules (flag_id, scheduled_at, updates, created_by)
      values ('${FOREIGN}', now(), '{"enabled": true}', 'alice')`,
    'say who cancelled': `update app_public.feature_flag_schedules set cancelled_by = 'alice'`,
    'raise a revision': 'update app_public.feature_flags set revision = 9',
    'switch triggers off': 'alter table app_public.feature_flags disable trigger all',
    'let triggers sleep': 'set session_replication_role = replica',
    'become the API': 'set session authorization halyard_authenticator',
    'act as the API': 'set role halyard_authenticator',
    'act as the worker': 'set role halyard_worker',
    'act as the owner': 'set role halyard_owner',
  };

  test.each(Object.entries(refused))('can’t %s', async (_, sql) => {
    await asDba(role, { ...forged(FOREIGN), 'jwt.claims.role': role }, async (client) => {
      await expect(client.query(sql)).rejects.toMatchObject({ code: '42501' });
    });
    expect(await events()).toEqual([]);
  });
});
