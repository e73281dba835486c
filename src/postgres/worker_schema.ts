import { runMigrations } from 'graphile-worker';
import type pg from 'pg';
import { ConfigError } from '../config/error.ts';
import { workerLogger } from '../jobs/logger.ts';
import type { Logger } from '../lib/log.ts';
import { withConnection } from './connection.ts';
import { makePool } from './pool.ts';

/** What pg_stat_activity shows of the two sessions. */
const NAME = 'halyard migrate';
const POOL_NAME = `${NAME} jobs`;

/** Only the tables' owner works with them, and a schema that another role installed stays that role's. */
const FOREIGN_OWNER = `
  select pg_get_userbyid(o.owner) as owner
  from (
    select n.nspowner as owner from pg_namespace n where n.nspname = 'graphile_worker'
    union all
    select c.relowner from pg_class c where c.relnamespace = to_regnamespace('graphile_worker')
  ) as o
  where o.owner <> 'halyard_worker'::regrole
  limit 1`;

/**
 * Installs or updates graphile-worker's schema as the worker's role: its tables have row-level security without policies,
 * so only their owner works with them. Waits a second at most for each lock.
 *
 * @param databaseUrl the owner's URL; the owner is a member of halyard_worker.
 * @throws ConfigError when another role owns the schema or a table in it
 */
export async function installWorkerSchema(databaseUrl: string, log: Logger): Promise<void> {
  const pool = makePool(databaseUrl, {
    name: POOL_NAME,
    max: 2,
    settings: { role: 'halyard_worker', lock_timeout: '1s' },
    log,
  });
  await withConnection(databaseUrl, NAME, async (owner) => {
    await assertOwner(owner);
    try {
      await grantCreate(owner, true);
      await runMigrations({ pgPool: pool, logger: workerLogger(log) });
    } finally {
      await pool.end();
      await grantCreate(owner, false);
    }
    await assertOwner(owner);
  });
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

/** The worker's role may create a schema only while its own is being installed. */
async function grantCreate(owner: pg.Client, allowed: boolean): Promise<void> {
  await owner.query(`do $$ begin
    execute format('${allowed ? 'grant' : 'revoke'} create on database %I ${allowed ? 'to' : 'from'} halyard_worker',
      current_database());
  end $$`);
}
