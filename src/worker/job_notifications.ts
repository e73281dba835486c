import type pg from 'pg';
import type { WorkerEvents, WorkerPool } from 'graphile-worker';
import { coalesce } from '../lib/coalesce.ts';
import type { Logger } from '../lib/log.ts';
import { readValue } from '../postgres/value.ts';

/** The shortest time between two queries of idle slots for jobs. */
const NUDGE_MS = 20;
/** The shortest time between two reads of graphile-worker's migrations. */
const MIGRATIONS_MS = 5_000;

/** What graphile-worker takes for no jobs and for a migration that changes nothing. */
const NONE = '{"count":0}';

/**
 * Any login may notify on graphile-worker's channels, and graphile-worker trusts the payloads: each `jobs:insert` makes a slot query,
 * and one `worker:migrate` that says `breaking` stops it and sets the process's exit code. It emits each notification before it reads
 * it, and here the payload is replaced: slots query for jobs 50 times a second at most, and a migration counts once its row is there.
 *
 * @param options.pool graphile-worker's own
 * @param options.slots tasks at a time
 * @param options.stop ends the run; the next one says whether this version works with the new schema
 * @throws what keeps the migrations from being read
 */
export async function watchNotifications(
  events: WorkerEvents,
  options: {
    readonly pool: pg.Pool;
    readonly slots: number;
    readonly log: Logger;
    readonly stop: () => void;
  },
) {
  const { pool, slots, log, stop } = options;
  const known = await latestMigration(pool);
  let nudged = 0;
  let workers: Pick<WorkerPool, 'nudge'> | null = null;
  const nudging = coalesce(() => {
    workers?.nudge(nudged);
    nudged = 0;
    return Promise.resolve();
  }, NUDGE_MS);
  const checking = coalesce(async () => {
    try {
      if ((await latestMigration(pool)) !== known) stop();
    } catch (error) {
      log.debug({ err: error }, "graphile-worker's migrations could not be read");
    }
  }, MIGRATIONS_MS);

  events.on('pool:listen:notification', ({ message, workerPool }) => {
    message.payload = NONE;
    if (message.channel === 'worker:migrate') checking.request();
    else {
      workers = workerPool;
      nudged = Math.min(nudged + 1, slots);
      nudging.request();
    }
  });
  // A migration may have come before this run listens. graphile-worker sends LISTEN after this event, and the client drains once it is
  // answered. A query of our own would queue behind UNLISTEN where the worker stops at once, which pg deprecates.
  events.on('pool:listen:success', ({ client }) => {
    client.once('drain', checking.request);
  });
  // A slot that has ended throws when it is nudged.
  for (const ending of ['pool:gracefulShutdown', 'pool:forcefulShutdown'] as const)
    events.on(ending, () => {
      workers = null;
      void nudging.close();
      void checking.close();
    });
}

/** graphile-worker itself reads the newest migration that is `breaking` once, at the start of a run. */
const latestMigration = (pool: pg.Pool) =>
  readValue<number>(pool, 'select max(id) from graphile_worker.migrations where breaking');
