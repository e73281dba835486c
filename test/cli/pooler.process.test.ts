import { randomBytes } from 'node:crypto';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { ConfigError } from '../../src/config/error.ts';
import { migrate } from '../../src/postgres/migrate.ts';
import { setSession } from '../../src/postgres/session.ts';
import { value } from '../support/actors.ts';
import { runAudit } from '../support/chaos/command.ts';
import { withClient } from '../support/database.ts';
import { makeTestLog } from '../support/log.ts';
import { loginsTo, loginUrl, type Logins } from '../support/migrated.ts';
import { startPooler, type Pooler } from '../support/pooler.ts';

const { log } = makeTestLog();
const OWNER = `select pg_get_userbyid(nspowner)::text from pg_namespace where nspname = 'graphile_worker'`;

/** An empty database of the owner's; the server's roles are there. */
async function makeEmpty(): Promise<Logins & { name: string; drop(): Promise<void> }> {
  const name = `${inject('template')}_${randomBytes(4).toString('hex')}`;
  const run = (sql: string) => withClient(inject('rootUrl'), (client) => client.query(sql));
  await run(`create database ${name} owner halyard_owner`);
  return {
    name,
    ...loginsTo(inject('rootUrl'), inject('password'), name),
    drop: async () => {
      await run(`drop database ${name} with (force)`);
    },
  };
}

describe.each(['refuse', 'ignore'] as const)('behind a pooler that %ss options', (treatment) => {
  let logins: Awaited<ReturnType<typeof makeEmpty>>;
  let pooler: Pooler;

  beforeAll(async () => {
    logins = await makeEmpty();
    pooler = await startPooler(inject('rootUrl'), treatment);
  });
  afterAll(async () => {
    await pooler[Symbol.asyncDispose]();
    await logins.drop();
  });

  test('migrations run, and the worker’s role owns graphile-worker’s schema', async () => {
    await migrate(pooler.through(logins.ownerUrl), log);
    expect(await withClient(logins.ownerUrl, (client) => value(client, OWNER))).toBe(
      'halyard_worker',
    );
  });

  test('the audit commands read the trail as halyard_auditor', async () => {
    const through = {
      ownerUrl: pooler.through(logins.ownerUrl),
      authenticatorUrl: pooler.through(logins.authenticatorUrl),
      workerUrl: pooler.through(logins.workerUrl),
    };
    const { status, stderr } = await runAudit(through, 'verify');
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  });
});

test('graphile-worker’s schema that another role owns is refused, and nothing is migrated', async () => {
  const logins = await makeEmpty();
  await withClient(logins.ownerUrl, async (client) => {
    await client.query('create schema graphile_worker');
    await expect(migrate(logins.ownerUrl, log)).rejects.toThrow(
      /belong to halyard_owner.*drop schema graphile_worker cascade/s,
    );
    expect(await value(client, `select to_regnamespace('app_public')`)).toBeNull();
    await client.query('drop schema graphile_worker cascade');
    await migrate(logins.ownerUrl, log);
    expect(await value(client, OWNER)).toBe('halyard_worker');
  });
  await logins.drop();
});

test('a table that another role made where migrations write is refused, and runs nothing as the owner', async () => {
  const logins = await makeEmpty();
  const stranger = loginUrl(inject('rootUrl'), 'halyard_worker', inject('password'), logins.name);
  await withClient(logins.ownerUrl, (owner) =>
    owner.query(`grant create on database ${logins.name} to halyard_worker`),
  );
  await withClient(stranger, (client) =>
    client.query(`
      create schema graphile_migrate;
      create table graphile_migrate.halyard_leases (
        name text primary key, holder text, backend integer, token bigint, expires_at timestamptz);
      create function graphile_migrate.trap() returns trigger language plpgsql as $$ begin
        create schema trapped;
        return new;
      end $$;
      create trigger trap before insert on graphile_migrate.halyard_leases
        for each row execute function graphile_migrate.trap();
      grant all on schema graphile_migrate to public;
      grant all on graphile_migrate.halyard_leases to public`),
  );
  await expect(migrate(logins.ownerUrl, log)).rejects.toThrow(
    /others have made graphile_migrate \(owner halyard_worker\), graphile_migrate.halyard_leases/,
  );
  await withClient(logins.ownerUrl, async (owner) => {
    expect(await value(owner, `select to_regnamespace('trapped')`)).toBeNull();
  });
  await logins.drop();
});

test('what the worker’s login puts into its schema runs with no rights of the owner’s when it is migrated', async () => {
  const logins = await makeEmpty();
  await migrate(logins.ownerUrl, log);
  const escalate = `create or replace function graphile_worker.escalate() returns boolean language plpgsql as $$ begin
    perform set_config('role', 'halyard_owner', false);
    create table if not exists app_private.by_the_worker (id int primary key);
    perform set_config('role', 'none', false);
    return true;
  exception when others then return true;
  end $$`;
  await withClient(logins.ownerUrl, async (owner) => {
    for (const trap of [
      `alter table graphile_worker.migrations rename to old;
       create view graphile_worker.migrations as select id, ts, breaking from graphile_worker.old where graphile_worker.escalate()`,
      `alter table graphile_worker.migrations force row level security, enable row level security;
       create policy trap on graphile_worker.migrations using (graphile_worker.escalate())`,
      `delete from graphile_worker.migrations where id = (select max(id) from graphile_worker.migrations);
       create function graphile_worker.tg() returns trigger language plpgsql as $$ begin perform graphile_worker.escalate(); return new; end $$;
       create trigger trap before insert or update on graphile_worker.migrations for each row execute function graphile_worker.tg()`,
      // Planning a query of the table evaluates these.
      `create function graphile_worker.one() returns integer immutable language plpgsql as $$ begin
         if current_user = 'halyard_owner' then perform setval('audit.dead_letters_id_seq', 7777); end if;
         perform graphile_worker.escalate();
         return 1;
       end $$;
       create index trap on graphile_worker.migrations (id, (graphile_worker.one()))`,
      `create function graphile_worker.one() returns integer immutable language plpgsql as $$ begin
         if current_user = 'halyard_owner' then perform setval('audit.dead_letters_id_seq', 7777); end if;
         perform graphile_worker.escalate();
         return 1;
       end $$;
       create statistics graphile_worker.trap on id, (id + graphile_worker.one()) from graphile_worker.migrations`,
    ]) {
      await withClient(logins.workerUrl, (worker) => worker.query(`${escalate}; ${trap}`));
      await migrate(logins.ownerUrl, log);
      expect(
        await value(owner, `select to_regclass('app_private.by_the_worker')`),
        trap,
      ).toBeNull();
      expect(await value(owner, `select to_regproc('graphile_worker.escalate')`), trap).toBeNull();
      expect(await value(owner, OWNER)).toBe('halyard_worker');
      // The owner rolls its look back, which doesn't take back a sequence.
      expect(
        await value(owner, 'select last_value::int from audit.dead_letters_id_seq'),
        trap,
      ).toBe(1);
    }
    // Nothing is left of an installation that was cut short, nor installed again when all is there.
    const made = `select oid::int from pg_namespace where nspname = 'graphile_worker'`;
    const before = await value(owner, made);
    await migrate(logins.ownerUrl, log);
    expect(await value(owner, made)).toBe(before);
    const foreign = `select count(*)::int from pg_class where relnamespace = 'graphile_worker'::regnamespace and relowner <> 'halyard_worker'::regrole`;
    expect(await value(owner, foreign)).toBe(0);
  });
  await logins.drop();
});

test('a pooler that lends a connection for a statement is found out', async () => {
  const url = loginsTo(inject('rootUrl'), inject('password'), inject('template')).ownerUrl;
  const postgres = new URL(url);
  postgres.pathname = '/postgres';
  // Each query has a new connection.
  const pool = new pg.Pool({ connectionString: postgres.href, max: 1, maxUses: 1 });
  await expect(setSession(pool, { role: 'halyard_worker' })).rejects.toThrow(ConfigError);
  await pool.end();
});
