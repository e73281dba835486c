import type pg from 'pg';
import type { Logger } from '../lib/log.ts';
import { pause } from '../lib/sleep.ts';
import { POOL_LOCK_KEY } from './presence.ts';
import type { Presence } from './presence.ts';

/** Releases the jobs of workers that died without a word; graphile-worker itself waits four hours. */
export interface Janitor {
  /** Looks once; where a pool seems dead, looks again after the grace. Resolves to the pools it released. */
  sweep(): Promise<readonly string[]>;
  close(): Promise<void>;
}

export interface JanitorOptions {
  readonly pool: pg.Pool;
  readonly presence: Presence;
  readonly log: Logger;
  readonly stopping: AbortSignal;
}

const SWEEP_EVERY_MS = 1_000;

/** How long a pool's lock must be free. A live pool whose connection was lost has it back in well under a second. */
const GRACE_MS = 2_500;
const LOOKS = 5;

/** The pools that hold jobs or queues, and whose lock nobody has. Trying the lock gives it back at the statement's end. */
const SUSPECTS = `
  select id
  from (
    select locked_by as id from graphile_worker._private_jobs where locked_by is not null
    union
    select locked_by from graphile_worker._private_job_queues where locked_by is not null
  ) as pool
  where id <> all ($1::text[]) and pg_try_advisory_xact_lock(${POOL_LOCK_KEY})`;

/** The check is made once more in the statement that releases: the lock is ours alone until it commits. */
const RELEASE = `
  with dead as materialized (
    select id from unnest($1::text[]) as pool (id) where pg_try_advisory_xact_lock(${POOL_LOCK_KEY})
  )
  select ids, graphile_worker.force_unlock_workers(ids)
  from (select coalesce(array_agg(id), '{}') as ids from dead) as released`;

/** Sweeps every second from its start on; the crontab's task is the net under that. */
export function makeJanitor(options: JanitorOptions): Janitor {
  const { log, stopping } = options;
  const running = run();

  async function run(): Promise<void> {
    let failing = false;
    while (!stopping.aborted) {
      try {
        await sweep();
        failing = false;
      } catch (error) {
        log[failing ? 'debug' : 'warn']({ err: error }, 'looking for dead workers failed');
        failing = true;
      }
      await pause(SWEEP_EVERY_MS, stopping);
    }
  }

  async function sweep(): Promise<readonly string[]> {
    let suspects = await findSuspects(options);
    for (let looks = 1; looks < LOOKS && suspects.length > 0; looks++) {
      await pause(GRACE_MS / (LOOKS - 1), stopping);
      if (stopping.aborted) return [];
      const still = new Set(await findSuspects(options));
      suspects = suspects.filter((id) => still.has(id));
    }
    if (suspects.length === 0) return [];
    const { rows } = await options.pool.query<{ ids: string[] }>(RELEASE, [suspects]);
    const released = rows[0]?.ids ?? [];
    if (released.length > 0) log.warn({ pools: released }, 'released the jobs of dead workers');
    return released;
  }

  return {
    sweep,
    close: () => running,
  };
}

async function findSuspects({ pool, presence }: JanitorOptions): Promise<string[]> {
  const { rows } = await pool.query<{ id: string }>(SUSPECTS, [presence.pools()]);
  return rows.map(({ id }) => id);
}
