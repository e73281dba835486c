import { readFile, readdir } from 'node:fs/promises';
import { runMigrations } from 'graphile-worker';
import type pg from 'pg';
import { ConfigError } from '../config/error.ts';
import { workerLogger } from '../jobs/logger.ts';
import type { Logger } from '../lib/log.ts';
import { withConnection } from './connection.ts';
import { makePool } from './pool.ts';

/** What pg_stat_activity shows of the two sessions. */
const NAME = 'halyard migrate schema';
const POOL_NAME = 'halyard migrate jobs';

/** The comment of a schema that isn't complete yet: it is the owner's, and is made from the beginning again. */
const MARK = 'Halyard is installing graphile-worker.';

/** Only the tables' owner works with them, and a schema that another role installed stays that role's. */
const FOREIGN_OWNER = `
  select pg_get_userbyid(o.owner) as owner
  from (
    select n.nspowner as owner from pg_namespace n where n.nspname = 'graphile_worker'
    union all
    select c.relowner from pg_class c where c.relnamespace = to_regnamespace('graphile_worker')
  ) as o
  where o.owner <> 'halyard_worker'::regrole
    and obj_description(to_regnamespace('graphile_worker'), 'pg_namespace') is distinct from '${MARK}'
  limit 1`;

/**
 * Whether graphile-worker's table of migrations is what the library made, as far as reading it goes. The worker's login owns the schema, so it could put a
 * view there, or a column whose type has a cast, and what the owner reads would run its functions with the owner's rights. Planning does so, too: it
 * evaluates the expressions of each index and of each statistics object as far as they are constant.
 */
const IS_PLAIN = `
  select c.relkind = 'r' and not c.relforcerowsecurity and a.atttypid = 'int4'::regtype and a.attgenerated = ''
    and not exists (
      select from pg_index i where i.indrelid = c.oid and (i.indexprs is not null or i.indpred is not null))
    and not exists (select from pg_statistic_ext x where x.stxrelid = c.oid)
    and not exists (select from pg_constraint k where k.conrelid = c.oid and k.contype = 'c') as plain
  from pg_class c
  join pg_attribute a on a.attrelid = c.oid and a.attname = 'id'
  where c.oid = to_regclass('graphile_worker.migrations')`;

const TRANSFER_SQL = new URL('../../migrations/worker_schema.sql', import.meta.url);

/**
 * Installs graphile-worker's schema, and gives it to the worker's role: its tables have row-level security without policies,
 * so only their owner works with them. Waits a second at most for each lock.
 *
 * One that is older than the library's is made from the beginning: the jobs in it are wake-ups, and come again. To migrate it would
 * run what the worker's login may have put into its schema, and the owner's session could be made to do anything.
 *
 * @param databaseUrl the owner's URL; the owner is a member of halyard_worker.
 * @throws ConfigError when another role owns the schema or a table in it
 */
export async function installWorkerSchema(databaseUrl: string, log: Logger): Promise<void> {
  await withConnection(databaseUrl, NAME, async (owner) => {
    await assertOwner(owner);
    if (await isUpToDate(owner)) return;
    await owner.query(
      `begin; set local lock_timeout = '1s';
       drop schema if exists graphile_worker cascade;
       create schema graphile_worker;
       comment on schema graphile_worker is '${MARK}';
       commit`,
    );
    const pool = makePool(databaseUrl, {
      name: POOL_NAME,
      max: 2,
      settings: { lock_timeout: '1s' },
      log,
    });
    try {
      await runMigrations({ pgPool: pool, logger: workerLogger(log) });
    } finally {
      await pool.end();
    }
    await owner.query(await readFile(TRANSFER_SQL, 'utf8'));
    await assertOwner(owner);
  });
}

/** Asks nothing that could run a function of the worker's. */
async function isUpToDate(owner: pg.Client): Promise<boolean> {
  const { rows } = await owner.query<{ installed: boolean }>(
    `select to_regclass('graphile_worker.migrations') is not null
       and to_regnamespace('graphile_worker')::oid in (select n.oid from pg_namespace n where n.nspowner = 'halyard_worker'::regrole) as installed`,
  );
  if (rows[0]?.installed !== true) return false;
  await owner.query('begin');
  try {
    // It can't be put in another's place meanwhile.
    await owner.query(
      `set local lock_timeout = '1s'; lock table only graphile_worker.migrations in access share mode`,
    );
    const found = await owner.query<{ plain: boolean }>(IS_PLAIN);
    if (found.rows[0]?.plain !== true) return false;
    const newest = await owner.query<{ id: number | null }>(
      'select max(m.id) as id from only graphile_worker.migrations m',
    );
    return (newest.rows[0]?.id ?? 0) >= (await latestOfLibrary());
  } finally {
    await owner.query('rollback');
  }
}

async function latestOfLibrary(): Promise<number> {
  const files = await readdir(new URL('../sql/', import.meta.resolve('graphile-worker')));
  return Math.max(...files.map((name) => Number.parseInt(name, 10)).filter(Number.isInteger));
}

async function assertOwner(client: pg.Client): Promise<void> {
  const { rows } = await client.query<{ owner: string }>(FOREIGN_OWNER);
  const owner = rows[0]?.owner;
  if (owner !== undefined)
    throw new ConfigError([
      `graphile-worker's tables belong to ${owner}, and the worker can use them only as their owner, halyard_worker. Stop the workers, ` +
        `run "drop schema graphile_worker cascade" as ${owner}, and migrate again: the jobs in it are wake-ups, and come again.`,
    ]);
}
