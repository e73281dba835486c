import { expect, test } from 'vitest';
import type { Blocker } from '../../src/postgres/blockers.ts';
import { ConnectionError } from '../../src/postgres/error.ts';
import { migrate } from '../../src/postgres/migrate.ts';
import { MigrationBlockedError } from '../../src/postgres/retry.ts';
import { value } from '../support/actors.ts';
import { copyMigrations } from '../support/chaos/migrations.ts';
import { withClient } from '../support/database.ts';
import { makeTestLog } from '../support/log.ts';
import { useFreshDatabase } from '../support/worker.ts';

test('a migration behind another one that hangs says so, and gives up in the end', async () => {
  const database = await useFreshDatabase();
  await withClient(database.ownerUrl, async (other) => {
    await other.query(`set application_name = 'halyard migrate lock'`);
    const pid = await value<number>(other, 'select pg_backend_pid()');
    await migrate(database.ownerUrl, makeTestLog().log);
    const lease = (ends: string) =>
      other.query(
        `update graphile_migrate.halyard_leases
         set token = token + 1, backend = pg_backend_pid(), expires_at = clock_timestamp() + $1::interval`,
        [ends],
      );
    await lease('1 minute');
    const { log, lines } = makeTestLog();
    const migrated = migrate(database.ownerUrl, log, { patienceMs: 5_000 });
    await expect(migrated).rejects.toThrow(MigrationBlockedError);
    await expect(migrated).rejects.toThrow(`process ${pid} (halyard_owner, halyard migrate lock)`);
    const waits = lines.flatMap(({ blockers = [] }) => blockers as Blocker[]);
    expect(waits.map((blocker) => blocker.pid)).toContain(pid);
    // One whose process is gone, or frozen, is waited for no longer than its lease.
    await lease('2 seconds');
    await migrate(database.ownerUrl, makeTestLog().log);
  });
});

test('a migration whose process is frozen doesn’t keep its locks', async () => {
  const database = await useFreshDatabase();
  const migrations = await copyMigrations();
  await migrations.add(`do $$ begin
    raise exception 'idle for %', current_setting('idle_in_transaction_session_timeout');
  end $$;`);
  const migrated = migrate(database.ownerUrl, makeTestLog().log, { folder: migrations.folder });
  await expect(migrated).rejects.toThrow('idle for 10s');
});

test('whom a migration waits for is named where a low deadlock_timeout leaves it little time to wait', async () => {
  const database = await useFreshDatabase();
  await withClient(database.rootUrl, (client) =>
    client.query(`alter database ${database.name} set deadlock_timeout = '100ms'`),
  );
  const migrations = await copyMigrations();
  await migrations.add('--!include platform/locks.sql');
  await withClient(database.ownerUrl, async (reader) => {
    await reader.query('begin');
    await reader.query('select from audit.events');
    const pid = await value<number>(reader, 'select pg_backend_pid()');
    const { folder } = migrations;
    const migrated = migrate(database.ownerUrl, makeTestLog().log, { folder, patienceMs: 4_000 });
    await expect(migrated).rejects.toThrow(`process ${pid} `);
  });
});

test.for([
  ['runs the migrations', 'halyard migrate pool'],
  ['keeps others out', 'halyard migrate lock'],
])('a migration whose session that %s is ended fails with one sentence', async ([, name]) => {
  const database = await useFreshDatabase();
  const migrations = await copyMigrations();
  const added = await migrations.add(`select pg_sleep(2)`);
  const migrated = migrate(database.ownerUrl, makeTestLog().log, { folder: migrations.folder });
  migrated.catch(() => undefined);
  await withClient(database.rootUrl, async (client) => {
    const sleeps = `select count(*)::int from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'`;
    await expect.poll(() => value(client, sleeps), { timeout: 20_000 }).toBe(1);
    await client.query(
      `select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = '${name}'`,
    );
    await expect(migrated).rejects.toThrow(ConnectionError);
    await expect(migrated).rejects.toThrow(/^The database \S+ can't be reached: [^\n]+\.$/);
    await migrate(database.ownerUrl, makeTestLog().log, { folder: migrations.folder });
    const ran = `select count(*)::int from graphile_migrate.migrations where filename = '${added}'`;
    expect(await value(client, ran)).toBe(1);
  });
});
