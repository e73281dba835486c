import type pg from 'pg';
import * as sql from './history_sql.ts';

/** A year of a trail and of schedules. However many rows: of the same shape, and each flag and admin with as many on average. */
export interface History {
  readonly flags: readonly Key[];
  /** The one that has a fifth of it all. */
  readonly hotFlag: Key;
  /** The first ones do the most. */
  readonly admins: readonly string[];
  readonly from: Date;
  readonly to: Date;
}

export interface Key {
  readonly flagKey: string;
  readonly environment: string;
}

/** The current one included. */
const MONTHS = 12;
/** Of schedules as of events: more than a page, so that a page is as full of few rows as of many. */
const ROWS_PER_FLAG = 200;
const ROWS_PER_ADMIN = 2_000;
const ENVIRONMENTS = ['production', 'staging', 'development'];
/** Months are filled, and indexes made, on as many connections. */
const AT_ONCE = 2;
/** Of indexes: sorted in memory, and by nobody else, for each connection has a processor. */
const MAKING = { maintenance_work_mem: '512MB', max_parallel_maintenance_workers: '0' };

/**
 * Fills the trail, its ledger and the schedules with `rows` of each, past the triggers.
 *
 * To be quick, the tables are unlogged and get their indexes when the rows are in. Neither makes a difference to reading.
 */
export async function fillHistory(root: pg.Pool, rows: number): Promise<History> {
  const flagCount = Math.round(rows / ROWS_PER_FLAG);
  const adminCount = Math.max(ENVIRONMENTS.length, Math.round(rows / ROWS_PER_ADMIN));
  const perMonth = Math.ceil(rows / MONTHS);
  await root.query(sql.MAKE_MONTHS, [MONTHS]);
  const { rows: months } = await root.query<Month>(sql.MONTHS, [MONTHS]);
  const restore = await stripTables(root);
  await root.query(sql.FLAGS, [flagCount, ENVIRONMENTS]);
  await root.query('analyze app_public.feature_flags');
  await root.query(sql.MONTH, [perMonth, flagCount, adminCount, ENVIRONMENTS]);
  await inParallel([...months.entries()], ([i, { partition, first, last }]) => {
    const step = `${(last.getTime() - first.getTime()) / perMonth} milliseconds`;
    return asReplica(root, async (client) => {
      for (const rows of [sql.events(partition), sql.LEDGER, sql.SCHEDULES])
        await client.query(rows, [i * perMonth, first, step]);
    });
  });
  await restore();
  await root.query('drop table public.bench_month');
  const flags = Array.from({ length: flagCount }, (_, n) => ({
    flagKey: `flag-${n}`,
    environment: ENVIRONMENTS[n % ENVIRONMENTS.length] ?? '',
  }));
  const [hotFlag] = flags;
  const [first, last] = [months[0], months.at(-1)];
  if (hotFlag === undefined || first === undefined || last === undefined)
    throw new RangeError(`${rows} rows make no history: take ${ROWS_PER_FLAG} or more.`);
  const admins = Array.from({ length: adminCount }, (_, n) => `user-${n}`);
  return { flags, hotFlag, admins, from: first.first, to: last.last };
}

interface Month {
  readonly partition: string;
  readonly first: Date;
  readonly last: Date;
}

/** Takes indexes, triggers and the write-ahead log away. What it returns brings back what reading needs. */
async function stripTables(root: pg.Pool): Promise<() => Promise<void>> {
  const { rows: indexes } = await root.query<{ drop: string; make: string | null }>(sql.INDEXES);
  for (const { drop } of indexes) await root.query(drop);
  await root.query(sql.TAKE_GUARDS);
  const { rows: tables } = await root.query<{ name: string }>(sql.TABLES);
  for (const { name } of tables) await root.query(`alter table ${name} set unlogged`);
  return async () => {
    await root.query(sql.PUT_GUARDS);
    const made = indexes.flatMap(({ make }) => make ?? []);
    await inParallel(made, (make) => withSettings(root, MAKING, (client) => client.query(make)));
    await inParallel(tables, async ({ name }) => {
      const { rows } = await root.query<{ vacuum: string }>(sql.VACUUM, [name]);
      for (const { vacuum } of rows) await root.query(vacuum);
    });
  };
}

/** Ordinary triggers and foreign keys sleep. */
function asReplica(root: pg.Pool, work: (client: pg.PoolClient) => Promise<unknown>) {
  return withSettings(root, { session_replication_role: 'replica' }, work);
}

async function withSettings(
  pool: pg.Pool,
  settings: Readonly<Record<string, string>>,
  work: (client: pg.PoolClient) => Promise<unknown>,
): Promise<void> {
  const client = await pool.connect();
  try {
    for (const [name, value] of Object.entries(settings))
      await client.query(`set ${name} = '${value}'`);
    await work(client);
    await client.query('reset all');
  } finally {
    client.release();
  }
}

async function inParallel<T>(
  items: readonly T[],
  work: (item: T) => Promise<unknown>,
): Promise<void> {
  const queue = items.values();
  const one = async () => {
    for (const item of queue) await work(item);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, one));
}
