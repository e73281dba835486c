import type pg from 'pg';
import { expect, test } from 'vitest';
import { value } from '../../support/actors.ts';
import { withClient } from '../../support/database.ts';
import { reconcileAs, withOwner } from '../../support/reconcile.ts';
import { findings, sealAll, sealFlags } from '../../support/sealed_trail.ts';
import type { TrailEvent } from '../../support/trail.ts';
import { useFreshDatabase } from '../../support/worker.ts';

const TAKE = `select app_private.take_lease('forward.stdout', 'test', $1)`;
const CONFIRM = `select app_private.confirm_audit_events('stdout', $1, $2, $3)`;

/** A lease of stdout's, and what confirms under it. */
async function lease(client: pg.ClientBase, lastsMs = 60_000) {
  const token = await value<string>(client, TAKE, [lastsMs]);
  const confirm = (from: number, to: number) => value<boolean>(client, CONFIRM, [token, from, to]);
  return { token, confirm };
}

/** Events about cursors, in their order. */
async function jumps(client: pg.ClientBase): Promise<Partial<TrailEvent>[]> {
  const { rows } = await client.query<TrailEvent>(
    `select event_type, level, actor_kind, database_user, metadata from audit.events
     where event_type ~ '^audit\\.(cursor|destination)' order by occurred_at`,
  );
  return rows;
}

test('a worker that begins and goes forward leaves no event', async () => {
  const database = await useFreshDatabase();
  await withOwner(database, async (client) => {
    await sealFlags(client, 5);
    await withClient(database.workerUrl, async (worker) => {
      const { confirm } = await lease(worker);
      expect(await confirm(0, 2)).toBe(true);
      expect(await confirm(2, 5)).toBe(true);
      expect(await confirm(5, 5), 'nothing new').toBe(true);
      expect(await confirm(2, 4), 'back').toBe(false);
      expect(await confirm(5, 4), 'back').toBe(false);
    });
    expect(await jumps(client)).toEqual([]);
  });
});

test('the worker’s login moves a cursor under the present lease only, by a page at most, and not beyond the last seal', async () => {
  const database = await useFreshDatabase();
  await withOwner(database, async (client) => {
    await sealFlags(client, 1_200);
    await client.query(`insert into app_public.feature_flags (flag_key) values ('unsealed')`);
    await withClient(database.workerUrl, async (worker) => {
      const refused = (sql: string, values: unknown[]) =>
        worker.query(sql, values).then(
          () => null,
          (error: unknown) => (error as pg.DatabaseError).code,
        );
      const { token, confirm } = await lease(worker, 60_000);
      expect(await value(worker, TAKE, [60_000]), 'another has it').toBeNull();
      expect(await refused(CONFIRM, [token, 0, 1_001]), 'more than a page').toBe('22023');
      expect(await confirm(0, 1_000)).toBe(true);
      expect(await refused(CONFIRM, [token, 1_000, 1_201]), 'beyond the seals').toBe('22023');
      expect(await value(worker, CONFIRM, [Number(token) - 1, 1_000, 1_100])).toBe(false);
      expect(await value(worker, CONFIRM, [null, 1_000, 1_100])).toBe(false);
      await worker.query(`select app_private.release_lease('forward.stdout', $1)`, [token]);
      const next = await lease(worker);
      expect(Number(next.token)).toBeGreaterThan(Number(token));
      expect(await confirm(1_000, 1_100), 'by one that was overtaken').toBe(false);
      expect(await value(worker, `select app_private.audit_cursor('stdout')`)).toBe('1000');
      for (const [name, lasts] of [
        ['forward.', 1_000],
        ['migrate', 1_000],
        [null, 1_000],
        ['reconcile', 600_001],
        ['reconcile', 0],
        ['reconcile', null],
      ])
        expect(
          await refused(`select app_private.take_lease($1, 'test', $2)`, [name, lasts]),
          `${name} ${lasts}`,
        ).toBe('22023');
    });
    expect(await value(client, `select last_seq from audit.cursors`)).toBe('1000');
    // As after the server's clock was set back.
    await client.query(`update app_private.leases set expires_at = now() + interval '1 day'`);
    expect(await value(client, TAKE, [1_000])).not.toBeNull();
    expect(await value(client, `select count(*)::int from app_private.leases`)).toBe(1);
  });
});

test('each other change of a cursor is an event that says from where to where, and by which login', async () => {
  const database = await useFreshDatabase();
  await withClient(database.ownerUrl, async (client) => {
    await sealFlags(client, 2);
    await withClient(database.workerUrl, async (worker) => (await lease(worker)).confirm(0, 2));
    for (const sql of [
      `update audit.cursors set last_seq = 7`,
      `update audit.cursors set last_seq = 1`,
      `update audit.cursors set updated_at = now()`,
      `select app_private.advance_audit_cursor('stdout', 1, 3)`,
      `insert into audit.cursors (destination, last_seq) values ('elsewhere', 0)`,
      `update audit.cursors set destination = 'there' where destination = 'elsewhere'`,
      `delete from audit.cursors where destination = 'stdout'`,
      `select audit.forget_destination('there')`,
    ])
      await client.query(sql);
  });
  await withOwner(database, async (client) => {
    const moved = {
      ...{ event_type: 'audit.cursor_moved', level: 'warning' },
      ...{ actor_kind: 'database', database_user: 'halyard_owner' },
    };
    const forgotten = { ...moved, event_type: 'audit.destination_forgotten', level: 'info' };
    const stdout = { destination: 'stdout' };
    expect(await jumps(client)).toEqual([
      { ...moved, metadata: { ...stdout, before: 2, after: 7 } },
      { ...moved, metadata: { ...stdout, before: 7, after: 1 } },
      { ...moved, metadata: { ...stdout, before: 1, after: 3 } },
      { ...moved, metadata: { destination: 'elsewhere', before: 0, after: 0 } },
      {
        ...moved,
        metadata: { destination: 'there', renamedFrom: 'elsewhere', before: 0, after: 0 },
      },
      { ...forgotten, metadata: { ...stdout, lastSeq: 3 } },
      { ...forgotten, metadata: { destination: 'there', lastSeq: 0 } },
    ]);
    await sealAll(client);
    expect(await findings(client)).toEqual([]);
  });
});

test('a jump under session_replication_role = replica is an event, and cursors can’t be truncated', async () => {
  const database = await useFreshDatabase();
  await withClient(database.rootUrl, async (client) => {
    await sealFlags(client, 3);
    await client.query('set session_replication_role = replica');
    await client.query(`insert into audit.cursors (destination, last_seq) values ('stdout', 3)`);
    expect(await jumps(client)).toMatchObject([{ metadata: { before: 0, after: 3 } }]);
    await expect(client.query('truncate audit.cursors')).rejects.toMatchObject({ code: 'ZF009' });
    expect(await value(client, 'select count(*)::int from audit.cursors')).toBe(1);
  });
});

test('a jump whose event can’t be written or made is a dead letter, and is replayed', async () => {
  const database = await useFreshDatabase();
  await withOwner(database, async (client) => {
    await client.query('alter table audit.events rename to events_old');
    await client.query(`insert into audit.cursors (destination, last_seq) values ('stdout', 3)`);
    await client.query('alter function app_private.event_id rename to event_id_old');
    await client.query('alter function app_private.actor_kind rename to actor_kind_old');
    await client.query(`update audit.cursors set last_seq = 0`);
    await client.query('alter function app_private.actor_kind_old rename to actor_kind');
    await client.query('alter function app_private.event_id_old rename to event_id');
    await client.query('alter table audit.events_old rename to events');
    expect(await jumps(client)).toEqual([]);
    expect(await reconcileAs(database, 'full')).toMatchObject({ fromLetters: 2, fromRows: 0 });
    expect(await jumps(client)).toMatchObject([
      { metadata: { before: 0, after: 3 } },
      { metadata: { before: 3, after: 0 } },
    ]);
  });
});
