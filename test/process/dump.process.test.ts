import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type pg from 'pg';
import { expect, inject, onTestFinished, test, type TestContext } from 'vitest';
import { migrate } from '../../src/postgres/migrate.ts';
import { setUp, withDatabase } from '../../src/postgres/setup.ts';
import { value } from '../support/actors.ts';
import { startTestApi } from '../support/api.ts';
import { cloneDatabase, withClient, type TestDatabase } from '../support/database.ts';
import {
  findDumpTools,
  runTool,
  startPackagedServer,
  type DumpTools,
} from '../support/dump_tools.ts';
import { insertFlag, insertSchedule } from '../support/factory.ts';
import { makeTestLog } from '../support/log.ts';
import { loginsTo, makeMigrated } from '../support/migrated.ts';
import { stepsOf } from '../support/plans.ts';
import { rowProblems } from '../support/row_problems.ts';
import { schemaDump } from '../support/schema_dump.ts';
import { findings, sealAll } from '../support/sealed_trail.ts';
import { adminToken } from '../support/tokens.ts';
import { parseShipped, startTestWorker } from '../support/worker.ts';

test('nothing of Halyard’s is a setting of the database, which a dump leaves out', async () => {
  const database = await cloneDatabase();
  onTestFinished(() => database.drop());
  // A setup on a database that is there already, as before each release.
  await setUp({ ...database, log: makeTestLog().log });
  await migrate(database.ownerUrl, makeTestLog().log);
  await withClient(database.rootUrl, async (client) => {
    expect(await settingsOf(client, database.name)).toEqual([]);
    const { rows } = await client.query<{ role: string; count: number }>(
      `select setrole::regrole::text as role, cardinality(setconfig) as count
       from pg_db_role_setting where setdatabase = 0 and setrole::regrole::text like 'halyard%' order by 1`,
    );
    expect(rows.map(({ role }) => role)).toEqual([
      'halyard_authenticator',
      'halyard_owner',
      'halyard_worker',
    ]);
    for (const { count } of rows) expect(count).toBeGreaterThan(20);
  });
});

async function settingsOf(client: pg.ClientBase, database: string): Promise<unknown[]> {
  const { rows } = await client.query<object>(
    'select s.* from pg_db_role_setting s join pg_database d on d.oid = s.setdatabase where d.datname = $1',
    [database],
  );
  return rows;
}

/** A server that one of the machine's pg_dump can read: the tests', or one beside it. Skips the test where there is neither. */
async function chooseServer(context: TestContext): Promise<{ rootUrl: string; tools: DumpTools }> {
  const rootUrl = inject('rootUrl');
  const major = await withClient(rootUrl, (client) =>
    value<number>(client, `select current_setting('server_version_num')::int / 10000`),
  );
  const found = await findDumpTools();
  const fit = found.find((tools) => tools.major >= major);
  if (fit !== undefined) return { rootUrl, tools: fit };
  const own = found.find((tools) => tools.hasServer && tools.major >= 15);
  if (own === undefined) {
    const versions = found.map((tools) => tools.major).join(', ') || 'none';
    const reason = `no pg_dump fits: PostgreSQL ${major} needs its own or a newer one, and this machine has ${versions}`;
    process.stderr.write(`skipped: ${reason}\n`);
    return context.skip(reason);
  }
  const server = await startPackagedServer(own);
  onTestFinished(() => server.stop());
  return { rootUrl: server.rootUrl, tools: own };
}

function databaseOf(rootUrl: string, name: string): TestDatabase {
  return {
    ...{ name, rootUrl: withDatabase(rootUrl, name), drop: () => Promise.resolve() },
    ...loginsTo(rootUrl, inject('password'), name),
  };
}

/** Flags, schedules, one of them due, a plan, a strict mode, events behind three seals, of which the first is delivered. */
async function fill(database: TestDatabase): Promise<void> {
  await withClient(database.ownerUrl, async (client) => {
    const { id } = await insertFlag(client, { flag_key: 'dumped' });
    await sealAll(client);
    await client.query(`select app_private.advance_audit_cursor('stdout', 0, 1)`);
    await insertSchedule(client, id, { dueIn: '-1 minute', updates: { rollout_percentage: 7 } });
    await insertSchedule(client, id, { dueIn: '1 year' });
    await client.query(`insert into app_public.environments (name) values ('dumped')`);
    const on = { flag_key: 'dumped', environment: 'production', updates: { enabled: true } };
    await client.query(
      `select app_private.insert_plan('Dumped', app_private.plan_content($1, now() + interval '1 year'), null)`,
      [stepsOf(on)],
    );
    await sealAll(client);
    await client.query(`select app_private.set_setting('audit_mode', 'strict')`);
    await sealAll(client);
    await client.query('select app_private.make_audit_partition(now() - $1::interval)', ['1 year']);
  });
}

/** What must be the same in the copy: every object with its owner's grants, and what the dump of schemas leaves out. */
async function contentsOf(database: TestDatabase): Promise<Record<string, unknown>> {
  return withClient(database.rootUrl, async (client) => {
    const list = async (sql: string) => (await client.query(sql)).rows as unknown[];
    return {
      partitions: await list(
        `select c.relname, pg_get_userbyid(c.relowner), c.relrowsecurity, pg_get_expr(c.relpartbound, c.oid),
           (select array_agg(t.tgname || ' ' || t.tgenabled::text order by t.tgname) from pg_trigger t where t.tgrelid = c.oid)
         from pg_class c where c.relispartition and c.relkind = 'r' order by 1`,
      ),
      owners: await list(
        `select n.nspname, c.relname, pg_get_userbyid(c.relowner) from pg_class c join pg_namespace n on n.oid = c.relnamespace
         where n.nspname in ('app_public', 'app_private', 'audit', 'graphile_worker', 'graphile_migrate') and c.relkind in ('r', 'p', 'v')
         order by 1, 2`,
      ),
      migrations: await list('select filename, hash from graphile_migrate.migrations order by 1'),
      ledger: await list('select * from audit.ledger order by seq'),
      seals: await list('select * from audit.seals order by seal_no'),
      cursors: await list('select * from audit.cursors order by 1'),
      settings: await list('select * from app_private.settings order by 1'),
      environments: await list('select * from app_public.environments order by name'),
      flags: await list('select * from app_public.feature_flags order by id'),
      plans: await list('select * from app_public.plans order by id'),
      schedules: await list('select * from app_public.feature_flag_schedules order by id'),
      schema: await schemaDump(client),
    };
  });
}

test('a database that pg_restore makes of a pg_dump goes on where the dump was taken', async (context) => {
  const { rootUrl, tools } = await chooseServer(context);
  const [from, to] = [
    databaseOf(rootUrl, 'halyard_dumped'),
    databaseOf(rootUrl, 'halyard_restored'),
  ];
  onTestFinished(() =>
    withClient(rootUrl, async (client) => {
      for (const { name } of [from, to])
        await client.query(`drop database if exists ${name} with (force)`);
    }),
  );
  await makeMigrated(rootUrl, loginsTo(rootUrl, inject('password'), from.name));
  await fill(from);

  const folder = await mkdtemp(join(tmpdir(), 'halyard-dump-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  const file = join(folder, 'halyard.dump');
  await runTool(tools, 'pg_dump', '-Fc', '-f', file, '-d', from.ownerUrl);
  // As docs/operations.md has it: setup first, then the dump, then migrate.
  const { log, lines } = makeTestLog();
  await setUp({ ...to, rootUrl, log });
  await runTool(
    tools,
    'pg_restore',
    '--exit-on-error',
    '--single-transaction',
    '-d',
    to.rootUrl,
    file,
  );
  const before = await contentsOf(to);
  await migrate(to.ownerUrl, log);
  expect(await contentsOf(to)).toEqual(before);
  expect(before).toEqual(await contentsOf(from));
  expect(lines.filter(({ level }) => level === 'warn')).toEqual([]);

  const again = ['--data-only', '--single-transaction', '-d', to.rootUrl, file];
  await expect(runTool(tools, 'pg_restore', ...again)).rejects.toThrow('duplicate key');
  expect(await contentsOf(to)).toEqual(before);

  await withClient(to.rootUrl, async (client) => {
    expect(await settingsOf(client, to.name)).toEqual([]);
    expect(await findings(client)).toEqual([]);
    expect(await rowProblems(client)).toEqual([]);
  });
  const api = await startTestApi(to.authenticatorUrl);
  onTestFinished(api.close);
  const ready = await api.call('GET /readyz');
  expect([ready.status, ready.body]).toEqual([
    200,
    expect.objectContaining({ audit_mode: 'strict' }),
  ]);
  const { sink } = await startTestWorker(to);
  const call = { token: adminToken() };
  const flag = async () => (await api.call('GET /api/admin/flags/dumped', call)).body;
  await expect.poll(flag).toMatchObject({ rollout_percentage: 7 });
  const shipped = () => sink.taken.map(({ message }) => parseShipped(message).eventType);
  await expect
    .poll(shipped)
    .toEqual(expect.arrayContaining(['flag_schedule.applied', 'feature_flag.updated']));
  // What was confirmed before the dump isn't sent again.
  expect(shipped()).toContain('flag_schedule.created');
  expect(shipped()).not.toContain('feature_flag.created');
});
