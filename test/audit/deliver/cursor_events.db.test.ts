import type pg from 'pg';
import { expect, test } from 'vitest';
import { value } from '../../support/actors.ts';
import { withClient } from '../../support/database.ts';
import { reconcileAs, withOwner } from '../../support/reconcile.ts';
import { findings, sealAll, sealFlags } from '../../support/sealed_trail.ts';
import type { TrailEvent } from '../../support/trail.ts';
import { useFreshDatabase } from '../../support/worker.ts';

const advance = (client: pg.ClientBase, from: number, to: number) =>
  value<boolean>(client, `select app_private.advance_audit_cursor('stdout', $1, $2)`, [from, to]);

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
  await withClient(database.workerUrl, async (worker) => {
    expect(await advance(worker, 0, 2)).toBe(true);
    expect(await advance(worker, 2, 5)).toBe(true);
    expect(await advance(worker, 5, 5), 'nothing new').toBe(true);
    expect(await advance(worker, 2, 4), 'back').toBe(false);
    expect(await advance(worker, 5, 4), 'back').toBe(false);
  });
  await withOwner(database, async (client) => expect(await jumps(client)).toEqual([]));
});

test('each other change of a cursor is an event that says from where to where, and by which login', async () => {
  const database = await useFreshDatabase();
  await withClient(database.workerUrl, (worker) => advance(worker, 0, 2));
  await withClient(database.ownerUrl, async (client) => {
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
