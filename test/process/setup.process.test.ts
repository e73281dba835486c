import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type pg from 'pg';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { RefusedError } from '../../src/postgres/error.ts';
import type { ConnectionLimits } from '../../src/postgres/setup/connections.ts';
import { isVerifierOf, scramVerifier } from '../../src/postgres/setup/passwords.ts';
import { setUp, withDatabase } from '../../src/postgres/setup.ts';
import { value } from '../support/actors.ts';
import { withClient } from '../support/database.ts';
import { makeTestLog } from '../support/log.ts';
import { loginsTo, loginUrl } from '../support/migrated.ts';
import { startOwnServer, type TestServer } from '../support/postgres_server.ts';

const NAME = 'halyard';
/** In another form than SASLprep's: each side must prepare it in the same way. */
const PASSWORD = 'pass wörd\u00a0ﬁ\u00ad';
const PASSWORD_IN_URL = encodeURIComponent(PASSWORD);
const LOGINS = ['halyard_owner', 'halyard_authenticator', 'halyard_worker'];

let server: TestServer;
let logFile: string;

beforeAll(async () => {
  server = await startOwnServer();
  await asRoot(async (client) => {
    await client.query(`alter role postgres set log_statement = 'all'`);
    logFile = join(dirname(String(await value(client, 'show data_directory'))), 'postgres.log');
  });
  await run();
});
afterAll(() => server.stop());

function asRoot<T>(work: (client: pg.Client) => Promise<T>): Promise<T> {
  return withClient(server.rootUrl, work);
}

async function run(
  options: { rootUrl?: string; password?: string; limits?: ConnectionLimits } = {},
) {
  const { rootUrl = server.rootUrl, password = PASSWORD, limits } = options;
  const { log, lines } = makeTestLog();
  const logins = loginsTo(server.rootUrl, encodeURIComponent(password), NAME);
  await setUp({ rootUrl, ...logins, log, ...(limits && { limits }) });
  return lines;
}

const urls = () => Object.values<string>({ ...loginsTo(server.rootUrl, PASSWORD_IN_URL, NAME) });

/** Where each row lies that a setup may write: an UPDATE moves it. */
async function rowsOfSetup(): Promise<unknown> {
  const shared = await asRoot((client) =>
    value(
      client,
      `select jsonb_build_object(
         'roles', (select jsonb_agg((ctid, xmin::text, rolname) order by oid) from pg_authid),
         'members', (select jsonb_agg((ctid, xmin::text) order by ctid) from pg_auth_members),
         'settings', (select jsonb_agg((ctid, xmin::text) order by ctid) from pg_db_role_setting),
         'comments', (select jsonb_agg((ctid, xmin::text) order by ctid) from pg_shdescription),
         'database', (select jsonb_agg((ctid, xmin::text, datacl::text)) from pg_database where datname = '${NAME}'))`,
    ),
  );
  const own = await withClient(withDatabase(server.rootUrl, NAME), (client) =>
    value(
      client,
      `select jsonb_build_object(
         'public', (select jsonb_agg((ctid, xmin::text)) from pg_namespace where nspname = 'public'),
         'functions', (select jsonb_agg((ctid, xmin::text) order by oid) from pg_proc where proname ~ '^lo_?|advisory|^pg_logical'))`,
    ),
  );
  return { shared, own };
}

describe('passwords', () => {
  test('never reach the server’s log, and let their roles in', async () => {
    const log = await readFile(logFile, 'utf8');
    expect(log).toContain('alter role halyard_owner with password');
    for (const text of [PASSWORD, PASSWORD.normalize('NFKC'), 'pass wörd'])
      expect(log.includes(text)).toBe(false);
    for (const url of urls())
      expect(await withClient(url, (client) => value(client, 'select 1'))).toBe(1);
  });

  test.for(['plain', 'ünï', 'a\u00a0b', 'ﬁ\u00ad', '😀', 'ー\u200dア'])(
    'the server makes the same verifier of %j',
    async (password) => {
      await asRoot(async (client) => {
        await client.query(`create role probe login password '${password}'`);
        const verifier = await value(
          client,
          `select rolpassword from pg_authid where rolname = 'probe'`,
        );
        await client.query('drop role probe');
        expect(isVerifierOf(String(verifier), password)).toBe(true);
        expect(isVerifierOf(String(verifier), `${password}x`)).toBe(false);
      });
      expect(isVerifierOf(scramVerifier(password), password)).toBe(true);
    },
  );

  test('an md5 verifier, none and a changed password are replaced', async () => {
    const before = await rowsOfSetup();
    await asRoot((client) =>
      client.query(`alter role halyard_worker password 'md5${'0'.repeat(32)}'`),
    );
    await asRoot((client) => client.query('alter role halyard_owner password null'));
    await run();
    expect(await rowsOfSetup()).not.toEqual(before);
    await run({ password: 'another' });
    const owner = loginUrl(server.rootUrl, 'halyard_owner', 'another', NAME);
    expect(await withClient(owner, (client) => value(client, 'select 1'))).toBe(1);
    await run();
  });
});

describe('a setup where all is so already', () => {
  test('writes nothing', async () => {
    const before = await rowsOfSetup();
    await run();
    expect(await rowsOfSetup()).toEqual(before);
  });

  test('needs no right to the roles and the database', async () => {
    await asRoot((client) =>
      client.query(`create role second login createrole createdb password 'second'`),
    );
    onTestFinished(() =>
      asRoot((client) => client.query('drop role second')).then(() => undefined),
    );
    const rootUrl = loginUrl(server.rootUrl, 'second', 'second', 'postgres');
    const before = await rowsOfSetup();
    const lines = await run({ rootUrl });
    expect(await rowsOfSetup()).toEqual(before);
    // What is inside of the database it can't see.
    expect(lines.filter(({ level }) => level === 'warn')).toMatchObject([{ database: NAME }]);

    await expect(run({ rootUrl, password: 'another' })).rejects.toThrow(RefusedError);
    expect(await rowsOfSetup()).toEqual(before);
  });

  test('puts right what was changed', async () => {
    await asRoot(async (client) => {
      await client.query('alter role halyard_viewer login');
      await client.query('comment on role halyard_admin is null');
      await client.query('revoke halyard_viewer from halyard_authenticator');
      await client.query('alter role halyard_worker connection limit 3');
      await client.query(`grant connect, temporary on database ${NAME} to public`);
    });
    const inside = withDatabase(server.rootUrl, NAME);
    await withClient(inside, (client) =>
      client.query(
        'grant create on schema public to public; grant execute on function lo_create(oid) to public',
      ),
    );
    await run();
    expect(
      await withClient(inside, (client) =>
        value(
          client,
          `select has_schema_privilege('pg_monitor', 'public', 'create') or has_function_privilege('pg_monitor', 'lo_create(oid)', 'execute')`,
        ),
      ),
    ).toBe(false);
    await asRoot(async (client) => {
      expect(
        await value(
          client,
          `select array[
             (select not rolcanlogin from pg_roles where rolname = 'halyard_viewer'),
             shobj_description('halyard_admin'::regrole, 'pg_authid') is not null,
             pg_has_role('halyard_authenticator', 'halyard_viewer', 'member'),
             (select rolconnlimit > 100 from pg_roles where rolname = 'halyard_worker'),
             not has_database_privilege('pg_monitor', '${NAME}', 'connect'),
             not has_database_privilege('pg_monitor', '${NAME}', 'temporary')]`,
        ),
      ).toEqual([true, true, true, true, true, true]);
    });
  });
});

describe('connections', () => {
  const limitsOf = () =>
    asRoot(async (client) => {
      const { rows } = await client.query<{ rolname: string; rolconnlimit: number }>(
        `select rolname, rolconnlimit from pg_roles where rolcanlogin and rolname <> 'postgres'`,
      );
      return Object.fromEntries(rows.map(({ rolname, rolconnlimit }) => [rolname, rolconnlimit]));
    });

  test('an auditor’s login gets a few, and the API and the worker what fits the server', async () => {
    await asRoot(async (client) => {
      await client.query(`create role dana login password 'dana' in role halyard_auditor`);
      await client.query(`create role dora login password 'dora' connection limit 2 in role dana`);
      await client.query('create role stranger login');
      // As PostgreSQL gives each role to the administrator who made it.
      await client.query('create role maker login createrole');
      await client.query(
        'grant halyard_auditor to maker with admin true, inherit false, set false',
      );
    });
    onTestFinished(() =>
      asRoot((client) => client.query('drop role dora, dana, stranger, maker')).then(
        () => undefined,
      ),
    );
    await run();
    expect(await limitsOf()).toEqual({
      halyard_owner: -1,
      halyard_authenticator: 177,
      halyard_worker: 177,
      dana: 5,
      dora: 2,
      stranger: -1,
      maker: -1,
    });
    const open = (n: number): Promise<unknown> =>
      withClient(loginUrl(server.rootUrl, 'dana', 'dana', NAME), () =>
        n === 1 ? Promise.resolve() : open(n - 1),
      );
    await open(5);
    await expect(open(6)).rejects.toMatchObject({ code: '53300' });
    await run({ limits: { api: 50, worker: 0, reader: 7 } });
    expect(await limitsOf()).toMatchObject({
      ...{ halyard_authenticator: 50, halyard_worker: -1, dana: 5 },
    });
  });

  test('Halyard’s own logins may use those that are reserved', async () => {
    await asRoot(async (client) => {
      for (const login of LOGINS)
        expect(
          await value(
            client,
            `select pg_has_role('${login}', 'pg_use_reserved_connections', 'usage')`,
          ),
        ).toBe(true);
      expect(await value(client, 'show reserved_connections')).toBe('20');
    });
  });
});

test('no login can make a large object, take an advisory lock or fill the write-ahead log', async () => {
  for (const url of urls())
    for (const call of [
      'lo_create(0)',
      'lo_creat(-1)',
      `lo_from_bytea(0, 'x')`,
      'pg_advisory_lock(1)',
      'pg_advisory_xact_lock_shared(1, 2)',
      'pg_try_advisory_lock(1, 2)',
      'pg_try_advisory_xact_lock_shared(1)',
      `pg_logical_emit_message(false, 'x', 'y')`,
    ])
      await expect(
        withClient(url, (client) => client.query(`select ${call}`)),
      ).rejects.toMatchObject({ code: '42501' });
});

test('an operator that a login put into public, while it could, doesn’t run with the administrator’s rights', async () => {
  const name = 'older';
  await asRoot(async (client) => {
    await client.query(`create role mallory login password 'x'`);
    await client.query(`create database ${name}`);
  });
  // As PostgreSQL 14 made it.
  await withClient(withDatabase(server.rootUrl, name), (client) =>
    client.query('grant create on schema public to public'),
  );
  await withClient(loginUrl(server.rootUrl, 'mallory', 'x', name), (client) =>
    client.query(
      [
        ['equals', '=', 'oid, integer', 'boolean', 'false'],
        ['append', '||', 'text[], text', 'text[]', '$1'],
      ]
        .map(
          ([made, operator, types, result, answer]) =>
            `create function public.${made}(${types}) returns ${result} language plpgsql as $$ begin
               if (select rolsuper from pg_roles where rolname = current_user) then
                 alter role mallory superuser;
               end if;
               return ${answer};
             end $$;
             create operator public.${operator} (function = public.${made},
               leftarg = ${types?.split(', ')[0]}, rightarg = ${types?.split(', ')[1]})`,
        )
        .join(';'),
    ),
  );
  await setUp({
    rootUrl: server.rootUrl,
    ...loginsTo(server.rootUrl, PASSWORD_IN_URL, name),
    log: makeTestLog().log,
  });
  const trapped = `select rolsuper from pg_roles where rolname = 'mallory'`;
  expect(await asRoot((client) => value(client, trapped))).toBe(false);
});
