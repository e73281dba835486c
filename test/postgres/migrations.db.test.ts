import { randomBytes } from 'node:crypto';
import { copyFile, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { migrate as runGraphileMigrate, Logger as GraphileLogger } from 'graphile-migrate';
import type pg from 'pg';
import { pino } from 'pino';
import { afterEach, beforeEach, expect, inject, test } from 'vitest';
import { migrate } from '../../src/postgres/migrate.ts';
import { setUp } from '../../src/postgres/setup.ts';
import { installWorkerSchema } from '../../src/postgres/worker_schema.ts';
import { value } from '../support/actors.ts';
import { endIdle } from '../support/connections.ts';
import { cloneDatabase, withClient, type TestDatabase } from '../support/database.ts';
import { insertFlag, insertSchedule } from '../support/factory.ts';
import { makeTestLog } from '../support/log.ts';
import { loginsTo } from '../support/migrated.ts';
import type { Logins } from '../support/migrated.ts';
import { become } from '../support/roles.ts';
import { schemaDump } from '../support/schema_dump.ts';
import { queuedEvents } from '../support/trail.ts';

const MIGRATIONS = fileURLToPath(new URL('../../migrations/', import.meta.url));
const COMMITTED = (await readdir(join(MIGRATIONS, 'committed'))).toSorted();
const log = pino({ level: 'silent' });

let name: string;
let logins: Logins;
let ownerUrl: string;

beforeEach(() => {
  name = `${inject('template')}_${randomBytes(4).toString('hex')}`;
  logins = loginsTo(inject('rootUrl'), inject('password'), name);
  ownerUrl = logins.ownerUrl;
});

afterEach(async () => {
  await dropDatabase(name);
});

/** Without force, which waits for those who are about to leave: graphile-migrate ends its process when cut off. */
async function dropDatabase(name: string): Promise<void> {
  await endIdle(name);
  await withClient(inject('rootUrl'), (client) => client.query(`drop database if exists ${name}`));
}

/** An empty database, as `setup` makes it. */
async function makeEmpty(): Promise<void> {
  await setUp({ rootUrl: inject('rootUrl'), ...logins, log });
}

/** Migrates as a version of Halyard did that had only the first `count` migrations. */
async function migrateTo(count: number): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'halyard-migrations-'));
  try {
    await mkdir(join(folder, 'committed'));
    for (const file of COMMITTED.slice(0, count))
      await copyFile(join(MIGRATIONS, 'committed', file), join(folder, 'committed', file));
    await writeFile(join(folder, 'current.sql'), '');
    await runGraphileMigrate({
      connectionString: ownerUrl,
      migrationsFolder: folder,
      pgSettings: { search_path: 'pg_catalog, public' },
      logger: new GraphileLogger(() => () => undefined),
    });
  } finally {
    await rm(folder, { recursive: true });
  }
}

async function dump(url: string): Promise<string> {
  return withClient(url, async (client) => {
    await client.query('begin');
    return schemaDump(client);
  });
}

/** What the code from before the tracking columns did: plain SQL as the owner. */
async function oldCode(client: pg.ClientBase): Promise<string> {
  const flag = await insertFlag(client);
  const { id } = await insertSchedule(client, flag.id);
  await client.query(
    `update app_public.feature_flag_schedules set status = 'cancelled' where id = $1`,
    [id],
  );
  return (await insertSchedule(client, flag.id)).id;
}

const TRACKING = `select jsonb_object_agg(id, jsonb_build_array(status, created_by, cancelled_by, cancelled_at, cancel_reason))
  from app_public.feature_flag_schedules`;

const ALL_ROWS = `select jsonb_agg(to_jsonb(s) order by id) from app_public.feature_flag_schedules s`;

test('one at a time, with the old code at work in between', async () => {
  await makeEmpty();
  await installWorkerSchema(ownerUrl, log);
  for (const count of COMMITTED.keys()) {
    await migrateTo(count + 1);
    await withClient(ownerUrl, (client) => oldCode(client));
  }
  await migrate(ownerUrl, log);
  await withClient(ownerUrl, async (client) => {
    const tracking = await value<Record<string, unknown[]>>(client, TRACKING);
    const rows = Object.values(tracking).toSorted();
    expect(rows).toHaveLength(2 * COMMITTED.length);
    // The first two cancellings found no trigger that dates them.
    const dated = rows.filter(([, , , cancelledAt]) => cancelledAt !== null);
    expect(dated).toHaveLength(COMMITTED.length - 2);
    for (const [, createdBy, cancelledBy, , reason] of rows)
      expect([createdBy, cancelledBy, reason]).toEqual([null, null, null]);
  });
});

test('from zero and one at a time end at the same schema, and migrating again changes nothing', async () => {
  await makeEmpty();
  await migrate(ownerUrl, log);
  const first = await dump(ownerUrl);
  await migrate(ownerUrl, log);
  await Promise.all([migrate(ownerUrl, log), migrate(ownerUrl, log)]);
  expect(await dump(ownerUrl)).toBe(first);
  const generated = await readFile(new URL('../../schema/halyard.sql', import.meta.url), 'utf8');
  expect(generated.endsWith(first)).toBe(true);

  // As before an older version is deployed again.
  await withClient(ownerUrl, (client) =>
    client.query(
      `insert into graphile_migrate.migrations (hash, filename) values ('sha1:newer', '999999.sql')`,
    ),
  );
  const newer = makeTestLog();
  await migrate(ownerUrl, newer.log);
  expect(newer.text()).toMatch(/"version":"999999.sql".*a newer version has migrated/);
  expect(newer.text()).not.toMatch(/the database is migrated/);
});

test('a database that ran a migration which has changed since is refused, and left as it is', async () => {
  await makeEmpty();
  await migrate(ownerUrl, log);
  await withClient(ownerUrl, async (client) => {
    await client.query(
      `alter table graphile_migrate.migrations drop constraint migrations_previous_hash_fkey`,
    );
    await client.query(
      `update graphile_migrate.migrations set hash = 'sha1:0' where filename = '000002.sql'`,
    );
  });
  const before = await dump(ownerUrl);
  await expect(migrate(ownerUrl, log)).rejects.toThrow(
    /ran another 000002\.sql .* empty database/s,
  );
  expect(await dump(ownerUrl)).toBe(before);
});

async function withClone(work: (database: TestDatabase) => Promise<void>): Promise<void> {
  const database = await cloneDatabase();
  try {
    await work(database);
  } finally {
    await dropDatabase(database.name);
  }
}

test('the body of every migration, run again, is harmless to schema and rows', async () => {
  await withClone(async (database) => {
    const before = await dump(database.ownerUrl);
    await withClient(database.ownerUrl, async (client) => {
      await oldCode(client);
      const rows = await value(client, ALL_ROWS);
      for (const file of COMMITTED) {
        await client.query('begin');
        await client.query(await readFile(join(MIGRATIONS, 'committed', file), 'utf8'));
        await client.query('commit');
      }
      expect(await value(client, ALL_ROWS)).toEqual(rows);
    });
    expect(await dump(database.ownerUrl)).toBe(before);
  });
});

test('the tracking columns roll back without loss, and come again with what they held', async () => {
  await withClone(async (database) => {
    const schema = await dump(database.ownerUrl);
    const { rows, inBetween } = await withClient(database.ownerUrl, async (client) => {
      await trackedSchedules(database);
      const rows = await value<{ id: string }[]>(client, ALL_ROWS);
      const events = (await queuedEvents(client)).length;

      await client.query(
        await readFile(join(MIGRATIONS, 'rollback', 'schedule_tracking.sql'), 'utf8'),
      );
      const columns = await value<string[]>(
        client,
        `select array_agg(attname::text) from pg_attribute
         where attrelid = 'app_public.feature_flag_schedules'::regclass and attnum > 0 and not attisdropped`,
      );
      expect(columns).not.toEqual(
        expect.arrayContaining([expect.stringMatching(/^(created_by|cancel)/)]),
      );
      const count = 'select count(*)::int from app_public.feature_flag_schedules';
      expect(await value(client, count)).toBe(rows.length);

      const inBetween = await oldCode(client);
      const since = (await queuedEvents(client)).slice(events);
      expect(since.map(({ event_type }) => event_type)).toEqual([
        'feature_flag.created',
        'flag_schedule.created',
        'flag_schedule.cancelled',
        'flag_schedule.created',
      ]);
      expect(await value(client, 'select count(*)::int from audit.dead_letters')).toBe(0);
      return { rows, inBetween };
    });

    await migrate(database.ownerUrl, log);
    expect(await dump(database.ownerUrl)).toBe(schema);
    await withClient(database.ownerUrl, async (client) => {
      const after = await value<{ id: string; created_by: string | null }[]>(client, ALL_ROWS);
      expect(after.filter(({ id }) => rows.some((row) => row.id === id))).toEqual(rows);
      expect(after.find(({ id }) => id === inBetween)?.created_by).toBeNull();
      expect(
        await value(client, `select to_regclass('app_private.rolled_back_tracking')`),
      ).toBeNull();
    });
    await withClient(database.workerUrl, (client) =>
      client.query('select * from app_private.apply_due()'),
    );
  });
});

/** Schedules that Alice made, one of which Bob cancelled, and one from before. */
async function trackedSchedules(database: TestDatabase): Promise<void> {
  const flag = await withClient(database.ownerUrl, async (client) => {
    const flag = await insertFlag(client, { flag_key: 'search' });
    await insertSchedule(client, flag.id);
    return flag;
  });
  await withClient(database.authenticatorUrl, async (client) => {
    const as = async (userId: string, sql: string, parameters: unknown[]) => {
      await client.query('begin');
      await become(client, 'admin', { userId });
      const id = await value<string>(client, sql, parameters);
      await client.query('commit');
      return id;
    };
    const schedule = `select id from app_public.schedule_flag_change($1, null, now() + interval '1 hour', '{"enabled": true}')`;
    await as('alice', schedule, [flag.flag_key]);
    const id = await as('alice', schedule, [flag.flag_key]);
    await as('bob', `select id from app_public.cancel_flag_schedule($1, 'too early')`, [id]);
  });
}

test('a lock on graphile-worker’s tables is waited for in tries, and each says whom it waits for', async () => {
  await makeEmpty();
  await migrate(ownerUrl, log);
  const { log: logged, lines } = makeTestLog();
  await withClient(ownerUrl, async (client) => {
    await client.query('begin');
    await client.query('lock table graphile_worker.migrations in access exclusive mode');
    const pid = await value<number>(client, 'select pg_backend_pid()');
    const migrated = migrate(ownerUrl, logged);
    await expect
      .poll(() => lines)
      .toContainEqual(
        expect.objectContaining({
          msg: 'the migration waits for locks of other sessions',
          blockers: [expect.objectContaining({ pid, user: 'halyard_owner' })],
        }),
      );
    await client.query('rollback');
    await migrated;
  });
});
