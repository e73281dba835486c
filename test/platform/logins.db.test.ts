import { beforeEach, expect, test } from 'vitest';
import { actAs, actAsOwner, value, withActors } from '../support/actors.ts';
import { useDatabase, withClient } from '../support/database.ts';
import { insertFlag, insertSchedule, one } from '../support/factory.ts';
import { withoutAudit } from '../support/reconcile.ts';
import { become, sqlStateOf } from '../support/roles.ts';
import { queuedEvents, type TrailEvent } from '../support/trail.ts';
import { FOREIGN, forged } from '../support/forged.ts';

const database = useDatabase();

/** The events since the beginning of a test. */
let known: ReadonlySet<string>;
const events = async (): Promise<TrailEvent[]> =>
  (await withClient(database.ownerUrl, queuedEvents)).filter(({ id }) => !known.has(id));
beforeEach(async () => {
  known = new Set();
  known = new Set((await events()).map(({ id }) => id));
});

test('the API’s login makes an admin of verified claims; the worker’s the system', async () => {
  await withActors(database, async (client) => {
    const flag = await insertFlag(client, { flag_key: 'attributed' });
    await insertSchedule(client, flag.id, { dueIn: '-1 second' });
    await become(client, 'admin', {
      userId: 'alice',
      requestId: 'own',
      clientRequestId: 'the client’s',
    });
    await client.query(
      `select from app_public.schedule_flag_change('attributed', null, now() + interval '1 hour', '{"enabled": true}')`,
    );
    await actAs(client, 'none');
    await client.query('set local session authorization halyard_worker');
    for (const [name, text] of Object.entries(forged(flag.id)))
      await client.query('select set_config($1, $2, true)', [name, text]);
    await client.query('select app_private.apply_due()');
    await actAsOwner(client);
    const made = (await queuedEvents(client)).filter(
      ({ flag_key, actor_kind }) => flag_key === 'attributed' && actor_kind !== 'database',
    );
    const nobody = { admin_user_id: null, request_id: null };
    expect(made).toMatchObject([
      { actor_kind: 'admin', admin_user_id: 'alice', request_id: 'own' },
      { event_type: 'feature_flag.updated', actor_kind: 'system', ...nobody },
      { event_type: 'flag_schedule.applied', actor_kind: 'system', ...nobody },
    ]);
    expect(made[1]?.schedule_id).toBe(made[2]?.schedule_id);
    for (const { metadata } of made) expect(metadata).not.toHaveProperty('claimed');
  });
});

test('of the API’s login, too, a user or a request id that is too long is unknown', async () => {
  await withActors(database, async (client) => {
    const ids = ['x'.repeat(3_000_000), 'x'.repeat(321), ''];
    for (const id of ids) {
      await become(client, 'admin', { userId: id, email: id, requestId: id, clientRequestId: id });
      await insertFlag(client);
    }
    await actAsOwner(client);
    const made = (await queuedEvents(client)).slice(-ids.length);
    for (const event of made)
      expect(event).toMatchObject({
        actor_kind: 'admin',
        admin_user_id: null,
        admin_email: null,
        request_id: null,
        client_request_id: null,
      });
  });
});

test('what is no object of UUIDs names no schedule that is applied', async () => {
  const isApplying = (text: string) =>
    withClient(database.ownerUrl, (client) =>
      value<boolean>(client, 'select app_private.is_applying_text($1)', [text]),
    );
  expect(await isApplying(`{"${FOREIGN}": "${FOREIGN}", "${FOREIGN}": "${FOREIGN}"}`)).toBe(true);
  for (const text of ['', '{}', 'no json', `{"${FOREIGN}": 1}`, `{"${FOREIGN}": "${FOREIGN}", }`])
    expect([text, await isApplying(text)]).toEqual([text, false]);
});

test('stamps that were forged past the triggers make no admin of a *.reconciled event', async () => {
  await withActors(database, async (client) => {
    const flag = await insertFlag(client);
    await withoutAudit(client, async () => {
      const { id } = await insertSchedule(client, flag.id);
      await client.query('set local role none; set local session_replication_role = replica');
      await client.query(
        `update app_public.feature_flag_schedules set created_by = 'mallory', status = 'cancelled', cancelled_by = 'mallory'
         where id = $1`,
        [id],
      );
      await client.query('set local session_replication_role = origin');
      await actAsOwner(client);
    });
    await client.query(
      `select app_private.reconcile_rows('feature_flag_schedules', '${'0'.repeat(8)}-0000-0000-0000-000000000000', '-infinity', 100)`,
    );
    const event = one(
      (await queuedEvents(client)).filter(
        ({ event_type }) => event_type === 'flag_schedule.reconciled',
      ),
    );
    expect(event).toMatchObject({ actor_kind: 'system', admin_user_id: null, admin_email: null });
    expect(event.metadata).not.toHaveProperty('adminUserId');
  });
});

test('an owner’s command is a manual change where the login isn’t the owner’s own, and none where it is', async () => {
  const set = (url: string, number: string) =>
    withClient(url, async (client) => {
      await client.query('set role halyard_owner');
      await client.query(`select app_private.set_setting('pending_per_flag', $1)`, [number]);
    });
  await set(database.ownerUrl, '7');
  await set(database.rootUrl, '8');
  const made = await events();
  expect(made.map(({ event_type, actor_kind }) => [event_type, actor_kind])).toEqual(
    Array(2).fill(['setting.changed', 'system']),
  );
  await withClient(database.ownerUrl, async (client) => {
    const { rows } = await client.query<{ after: string }>(
      `select metadata ->> 'after' as after from audit.manual_changes where event_type = 'setting.changed'`,
    );
    expect(rows).toEqual([{ after: '8' }]);
  });
});

test('SQL at a prompt of the API’s own login has no token, and is no admin', async () => {
  await withActors(database, async (client) => {
    await become(client, 'auditor');
    await client.query(`select set_config('jwt.claims.role', '', true)`);
    expect(
      await sqlStateOf(client, () =>
        client.query(`select audit.record_export('csv', '{}', false)`),
      ),
    ).toBeNull();
    await actAsOwner(client);
    expect((await queuedEvents(client)).at(-1)).toMatchObject({
      event_type: 'audit.exported',
      actor_kind: 'database',
      database_user: 'halyard_authenticator',
    });
  });
});

test('who may act as the API’s role is not its login, and records nothing', async () => {
  await withClient(database.rootUrl, async (client) => {
    await client.query('set role halyard_authenticator');
    for (const sql of [
      `select app_private.record_denial('GET /x', 'forbidden')`,
      'select app_private.record_denial_counts()',
    ])
      await expect(client.query(sql)).rejects.toMatchObject({ code: '42501' });
    await client.query('set role halyard_auditor');
    await expect(
      client.query(`select audit.record_export('csv', '{}', false)`),
    ).rejects.toMatchObject({ code: '42501' });
  });
  expect(await events()).toEqual([]);
});

test('an API with another login isn’t ready: to the trail it would be no API', async () => {
  const isReady = (url: string) =>
    withClient(url, async (client) => {
      await client.query('set role halyard_authenticator');
      return value<boolean>(client, 'select privileges from app_private.readiness()');
    });
  expect(await isReady(database.authenticatorUrl)).toBe(true);
  expect(await isReady(database.rootUrl)).toBe(false);
});
