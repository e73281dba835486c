import pg from 'pg';
import { describe, expect, test } from 'vitest';
import { value } from '../../support/actors.ts';
import { withClient, withRollback } from '../../support/database.ts';
import type { TestDatabase } from '../../support/database.ts';
import { insertFlag } from '../../support/factory.ts';
import { stepsOf } from '../../support/plans.ts';
import { sqlStateOf } from '../../support/roles.ts';
import { findings, sealAll, tamper } from '../../support/sealed_trail.ts';
import { insertDue, useFreshDatabase } from '../../support/worker.ts';

const ACCEPT = `select app_private.accept_restore($1, $2, $3, $4)`;
const asOwner = <T>(database: TestDatabase, work: (client: pg.Client) => Promise<T>) =>
  withClient(database.ownerUrl, work);
const INCARNATIONS = 'select count(*)::int from audit.incarnations';

test.for<[string, unknown[]]>([
  ['no reason', ['  ', 'apply', false, false]],
  ['a reason that is too long', ['x'.repeat(501), 'apply', false, false]],
  ['no word about overdue schedules', ['why', null, false, false]],
  ['another word about them', ['why', 'ignore', false, true]],
])('%s is refused, and nothing is changed', async ([, values]) => {
  const database = await useFreshDatabase();
  await withRollback(database, async (client) => {
    expect(await sqlStateOf(client, () => client.query(ACCEPT, values))).toBe('22023');
    expect(await value(client, INCARNATIONS)).toBe(1);
  });
});

test('without a divergence it skips what is pending and due, and says all of it in one event', async () => {
  const database = await useFreshDatabase();
  await asOwner(database, async (client) => {
    await insertDue(client, { count: 3, dueIn: '-1 minute' });
    await insertDue(client, { count: 2, dueIn: '1 hour' });
    await sealAll(client);
    const dry = await value<Record<string, unknown>>(client, ACCEPT, [
      'tried',
      'skip',
      false,
      true,
    ]);
    expect(dry).toMatchObject({ skipped: 3, held: 3, lastSeq: 10, destinations: [] });
    expect(await value(client, INCARNATIONS)).toBe(1);
    const [trail, first] = await value<string[]>(
      client,
      'select array[trail, id] from audit.incarnations',
    );
    await client.query(ACCEPT, ['a disk was lost', 'skip', false, false]);
    await sealAll(client);

    const { rows } = await client.query<{ incarnation: string }>(
      'select distinct incarnation from audit.seals where seal_no > 1',
    );
    expect(rows).toHaveLength(1);
    const event = await value<Record<string, unknown>>(
      client,
      `select to_jsonb(e) from audit.events e where event_type = 'audit.restored'`,
    );
    expect(event).toMatchObject({
      level: 'warning',
      actor_kind: 'system',
      database_user: 'halyard_owner',
    });
    expect(event.metadata).toEqual({
      ...{
        reason: 'a disk was lost',
        overdue: 'skip',
        asCopy: false,
        trail,
        previousIncarnation: first,
      },
      ...{
        incarnation: rows[0]?.incarnation,
        lastSeal: 1,
        lastSeq: 10,
        skipped: 3,
        destinations: [],
        refused: [],
      },
    });
    const cancelled = await client.query(
      `select actor_kind, metadata ->> 'reason' as reason from audit.events where event_type = 'flag_schedule.cancelled'`,
    );
    expect(cancelled.rows).toEqual(
      Array(3).fill({ actor_kind: 'database', reason: 'a disk was lost' }),
    );
    expect(await findings(client)).toEqual([]);
  });
});

test('events in dead letters get other ids too, and replayed they are found as those of their revisions', async () => {
  const database = await useFreshDatabase();
  await asOwner(database, async (client) => {
    await client.query('alter table audit.queue rename to queue_old');
    await insertDue(client, { count: 2, dueIn: '1 hour' });
    await client.query('alter table audit.queue_old rename to queue');
    await client.query(`select app_private.set_setting('retry_base', '2 seconds')`);
    const idsOf = `select array_agg(e ->> 'id') from audit.dead_letters d, jsonb_array_elements(d.content -> 'events') as e`;
    const before = await value<string[]>(client, idsOf);
    const queued = await value<string[]>(client, 'select array_agg(event_id) from audit.queue');
    await client.query(ACCEPT, ['a disk was lost', 'apply', false, false]);
    const after = await value<string[]>(client, idsOf);
    expect(after).toHaveLength(before.length);
    expect(after.filter((id) => before.includes(id))).toEqual([]);
    expect(
      await value(client, 'select count(*)::int from audit.queue where event_id = any ($1)', [
        queued,
      ]),
    ).toBe(0);
    const full = `select from_letters + from_rows from app_private.reconcile_audit('full', null)`;
    expect(await value<number>(client, full)).toBe(4);
    for (const step of ['settings', 'feature_flags', 'feature_flag_schedules'])
      expect(
        await value(
          client,
          `select from_rows from app_private.reconcile_audit('full', jsonb_build_object('step', $1::text, 'startedAt', now(), 'since', '-infinity'))`,
          [step],
        ),
        step,
      ).toBe(0);
    await sealAll(client);
    expect(await findings(client)).toEqual([]);
  });
});

test('what is queued without its event stays in the queue, and is numbered as missing', async () => {
  const database = await useFreshDatabase();
  await asOwner(database, async (client) => {
    await insertDue(client, { count: 1, dueIn: '1 hour' });
    const id = await value<string>(
      client,
      'insert into audit.queue (event_id, occurred_at) values (gen_random_uuid(), now()) returning event_id',
    );
    await client.query(ACCEPT, ['a disk was lost', 'apply', false, false]);
    await sealAll(client);
    const numbered = 'select count(*)::int from audit.ledger where event_id = $1';
    expect(await value(client, numbered, [id])).toBe(1);
    expect((await findings(client)).map(({ status }) => status)).toEqual(['event_missing']);
  });
});

describe('while others are at work', () => {
  test('two at once give two incarnations in order, and a change waits and gets the new one’s id', async () => {
    const database = await useFreshDatabase();
    const accept = (reason: string) =>
      asOwner(database, async (client) => {
        await client.query(`set lock_timeout = 0`);
        await client.query(ACCEPT, [reason, 'apply', false, false]);
      });
    const change = () =>
      asOwner(database, (client) => insertDue(client, { count: 5, dueIn: '1 hour' }));
    const plan = () =>
      asOwner(database, async (client) => {
        const { flag_key, environment } = await insertFlag(client);
        const steps = stepsOf({ flag_key, environment, updates: { enabled: true } });
        await client.query(
          `select app_private.insert_plan('Release', app_private.plan_content($1, null), null)`,
          [steps],
        );
      });
    await Promise.all([accept('one'), change(), plan(), accept('two'), plan(), change()]);
    await asOwner(database, async (client) => {
      await sealAll(client);
      expect(
        await value(
          client,
          'select array_agg(incarnation_no order by incarnation_no) from audit.incarnations',
        ),
      ).toEqual([1, 2, 3]);
      expect(
        await value(
          client,
          `select count(*)::int from audit.events where event_type = 'audit.restored'`,
        ),
      ).toBe(2);
      expect(await findings(client)).toEqual([]);
    });
  });

  test('an open transaction that has changed a flag is in its way: it gives up soon, and changes nothing', async () => {
    const database = await useFreshDatabase();
    await asOwner(database, async (open) => {
      await open.query('begin');
      await insertDue(open, { count: 1, dueIn: '1 hour' });
      await asOwner(database, async (client) => {
        expect(
          await sqlStateOf(client, () => client.query(ACCEPT, ['why', 'apply', false, false])),
        ).toBe('55P03');
      }).catch((error: unknown) => error);
      await open.query('commit');
      expect(await value(open, INCARNATIONS)).toBe(1);
    });
  });

  test('when its session dies in the middle nothing is changed', async () => {
    const database = await useFreshDatabase();
    await asOwner(database, (client) => insertDue(client, { count: 3, dueIn: '-1 minute' }));
    const dying = new pg.Client({ connectionString: database.ownerUrl });
    dying.on('error', () => undefined);
    await dying.connect();
    await dying.query('begin');
    await dying.query(ACCEPT, ['a disk was lost', 'skip', false, false]);
    await withClient(database.rootUrl, async (client) => {
      await client.query(
        `select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()`,
      );
      await expect
        .poll(() =>
          value(
            client,
            `select count(*)::int from pg_locks where locktype = 'relation' and relation = 'app_private.locks'::regclass`,
          ),
        )
        .toBe(0);
      expect(await value(client, INCARNATIONS)).toBe(1);
      expect(
        await value(
          client,
          `select count(*)::int from app_public.feature_flag_schedules where status = 'cancelled'`,
        ),
      ).toBe(0);
      expect(await value(client, 'select count(*)::int from audit.queue')).toBe(6);
      expect(
        await value(
          client,
          `select count(*)::int from pg_trigger where tgrelid = 'audit.events'::regclass and tgenabled <> 'A'`,
        ),
      ).toBe(0);
    });
  });
});

test('the trail refuses changes as before, in each month', async () => {
  const database = await useFreshDatabase();
  await asOwner(database, async (client) => {
    await insertDue(client, { count: 1, dueIn: '1 hour' });
    await client.query(ACCEPT, ['a disk was lost', 'apply', false, false]);
    expect(
      await value(
        client,
        `select count(*)::int from pg_trigger t join pg_class c on c.oid = t.tgrelid
         where c.relnamespace = 'audit'::regnamespace and not t.tgisinternal and t.tgenabled <> 'A'`,
      ),
    ).toBe(0);
    await expect(client.query('delete from audit.events')).rejects.toThrow('append-only');
  });
});

test.for([
  ['taken away', 'delete from audit.incarnations where incarnation_no = 2'],
  [
    'another trail’s',
    'update audit.incarnations set trail = gen_random_uuid() where incarnation_no = 2',
  ],
  ['begun elsewhere', 'update audit.incarnations set first_seal = 1 where incarnation_no = 2'],
  [
    'put in',
    `insert into audit.incarnations (incarnation_no, trail, first_seal, first_seq) select 3, trail, 2, 11 from audit.incarnations where incarnation_no = 1`,
  ],
  [
    'put in behind the last seal',
    `insert into audit.incarnations (incarnation_no, trail, first_seal, first_seq)
     select 3, trail, 900, 9000 from audit.incarnations where incarnation_no = 1`,
  ],
])('an incarnation that was %s is found by verification', async ([, change = '']) => {
  const database = await useFreshDatabase();
  await withClient(database.rootUrl, async (client) => {
    await client.query('begin');
    await insertDue(client, { count: 5, dueIn: '1 hour' });
    await sealAll(client);
    await client.query(ACCEPT, ['a disk was lost', 'apply', false, false]);
    await sealAll(client);
    expect(await findings(client)).toEqual([]);
    await tamper(client, 'alter table audit.incarnations disable trigger user', change);
    expect((await findings(client)).map(({ status }) => status)).toContain('chain_broken');
    await client.query('rollback');
  });
});
