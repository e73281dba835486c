import { setTimeout as pause } from 'node:timers/promises';
import pg from 'pg';
import { expect, onTestFinished, test } from 'vitest';
import type { Blocker } from '../../src/postgres/blockers.ts';
import { migrate } from '../../src/postgres/migrate.ts';
import { MigrationBlockedError } from '../../src/postgres/retry.ts';
import { value } from '../support/actors.ts';
import { byForm } from '../support/chaos/form.ts';
import { startLoad, type Load } from '../support/chaos/load.ts';
import { copyMigrations, type Migrations } from '../support/chaos/migrations.ts';
import { makeRandom, newSeed } from '../support/chaos/random.ts';
import { openSite, type Site } from '../support/chaos/site.ts';
import { withClient, type TestDatabase } from '../support/database.ts';
import { makeTestLog, type LogLine } from '../support/log.ts';
import { insertDue, useFreshDatabase } from '../support/worker.ts';

const random = makeRandom(newSeed());
const ROUNDS = byForm({ short: 1, full: 10 });

/** Changes of tables of every kind, in an order that the running code doesn't follow. */
const madeUp = (column: string) => `
--!include platform/locks.sql
alter table audit.events add column ${column} text;
alter table audit.ledger add column ${column} text;
alter table audit.queue add column ${column} text;
alter view audit.failed_schedules set (security_invoker = true);
alter table app_public.feature_flag_schedules add column ${column} text;
alter table app_public.feature_flags add column ${column} text;`;

/** Bulk SQL until it is stopped: flags and due schedules at once, then schedules alone, whose trigger reads the flags. */
function startBulk(database: TestDatabase): { stop(): Promise<void> } {
  const stopping = new AbortController();
  const done = withClient(database.ownerUrl, async (client) => {
    while (!stopping.signal.aborted) {
      await insertDue(client, { count: 20, dueIn: '100 ms' });
      await client.query(
        `insert into app_public.feature_flag_schedules (flag_id, scheduled_at, updates)
         select f.id, now() + interval '1 day', '{"enabled": true}' from app_public.feature_flags f order by f.created_at desc limit 50`,
      );
      await pause(random.between(0, byForm({ short: 300, full: 100 })));
    }
  });
  // Looked at by stop().
  done.catch(() => undefined);
  return {
    async stop() {
      stopping.abort();
      await done;
    },
  };
}

/** Somebody who reads the trail in a transaction, and goes to lunch. */
async function startReader(
  database: TestDatabase,
): Promise<{ pid: number; stop(): Promise<void> }> {
  const client = new pg.Client({ connectionString: database.ownerUrl, application_name: 'lunch' });
  await client.connect();
  let stopped: Promise<void> | undefined;
  const stop = () => (stopped ??= client.end());
  onTestFinished(stop);
  const pid = await value<number>(client, 'select pg_backend_pid()');
  await client.query('begin');
  await client.query('select count(*) from audit.events');
  return { pid, stop };
}

/** An API, a worker and clients of them. */
async function openBusySite(): Promise<{ site: Site; load: Load }> {
  const site = await openSite(await useFreshDatabase());
  await Promise.all([site.startWorker(), site.startApi()]);
  const load = startLoad(site, random);
  await expect.poll(() => load.promised(), { timeout: 20_000 }).toBeGreaterThan(20);
  return { site, load };
}

/** How often a migration has logged that it waits for a session. */
function waitsFor(pid: number, lines: readonly LogLine[]): number {
  const waits = lines.filter(
    ({ msg }) => msg === 'the migration waits for locks of other sessions',
  );
  return waits.filter(({ blockers }) => (blockers as Blocker[]).some((b) => b.pid === pid)).length;
}

/** Neither a 5xx nor a request without an answer, nor an event that became a dead letter. */
async function checkUndisturbed(site: Site): Promise<void> {
  const { statuses, unknown } = site.journal;
  expect({ unknown, failed: [...statuses.keys()].filter((status) => status >= 500) }).toEqual({
    unknown: [],
    failed: [],
  });
  await site.check();
  const letters = 'select count(*)::int from audit.dead_letters';
  expect(await withClient(site.database.rootUrl, (client) => value(client, letters))).toBe(0);
}

async function forgetNewest(database: TestDatabase): Promise<void> {
  await withClient(database.ownerUrl, (client) =>
    client.query(
      `delete from graphile_migrate.migrations where filename = (select max(filename) from graphile_migrate.migrations)`,
    ),
  );
}

/** Behind a reader who stays a migration gives up, says whom it waited for, and has changed nothing. */
async function giveUpBehindReader(
  { database }: Site,
  load: Load,
  migrations: Migrations,
): Promise<void> {
  const name = await migrations.add(madeUp('never_made'));
  const reader = await startReader(database);
  const before = load.promised();
  const failed = migrate(database.ownerUrl, makeTestLog().log, {
    folder: migrations.folder,
    patienceMs: 4_000,
  });
  await expect(failed).rejects.toThrow(MigrationBlockedError);
  // The reader, or what else is under way in front of its tables at the last try.
  await expect(failed).rejects.toThrow(
    /waited for locks of process \d+ \(halyard_\w+, [\w ]+, in a transaction since .*"(select|insert|update)/,
  );
  await reader.stop();
  await expect.poll(() => load.promised()).toBeGreaterThan(before + 10);
  await withClient(database.ownerUrl, async (client) => {
    const ran = `select count(*)::int from graphile_migrate.migrations where filename = '${name}'`;
    expect(await value(client, ran)).toBe(0);
    const columns = `select count(*)::int from pg_attribute where attname = 'never_made'`;
    expect(await value(client, columns)).toBe(0);
  });
}

test('migrations under load, one behind a long reader and one that gives up, fail no request and lose no event', async () => {
  const { site, load } = await openBusySite();
  const { database } = site;
  const bulk = startBulk(database);
  for (let round = 0; round < ROUNDS; round++) {
    await forgetNewest(database);
    await migrate(database.ownerUrl, makeTestLog().log);
  }
  const migrations = await copyMigrations();
  for (let round = 0; round < ROUNDS; round++) {
    await migrations.add(madeUp(`made_up_${round}`));
    const reader = round === 0 ? await startReader(database) : undefined;
    const { log, lines } = makeTestLog();
    const migrated = migrate(database.ownerUrl, log, { folder: migrations.folder });
    migrated.catch(() => undefined);
    if (reader !== undefined) {
      await expect.poll(() => waitsFor(reader.pid, lines), { timeout: 60_000 }).toBe(2);
      await reader.stop();
    }
    await migrated;
  }
  await giveUpBehindReader(site, load, migrations);
  await load.stop();
  await bulk.stop();
  await checkUndisturbed(site);
});
