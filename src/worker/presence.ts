import pg from 'pg';
import { assertPrimary } from '../postgres/pool.ts';
import type { Logger } from '../lib/log.ts';
import { pause } from '../lib/sleep.ts';

/** Tells all other workers that this process is alive. */
export interface Presence {
  /** Holds the lock that stands for this pool of workers; resolves once it does so for the first time, or closes. */
  hold(poolId: string): Promise<void>;
  /** Lets it go: the pool is over, and what it has left behind may be released. */
  drop(poolId: string): void;
  /** The pools that are alive in this process, whether the connection is up or not. */
  pools(): readonly string[];
  healthy(): boolean;
  close(): Promise<void>;
}

/**
 * The advisory lock of a pool, as SQL with the pool's id as `id`. Holders share it, so that a new connection
 * doesn't wait for one that the server hasn't noticed the end of; the janitor's question is whether it can have it alone.
 */
export const POOL_LOCK_KEY = `hashtextextended('halyard.worker_pool.' || id, 0)`;

const HEARTBEAT_MS = 2_000;
const ANSWER_MS = 3_000;
const BACK_OFF_BASE_MS = 50;
/** Well under the janitor's grace, so that a pool that lost its connection is back before it is taken for dead. */
const BACK_OFF_CAP_MS = 500;

/**
 * Keeps a connection of its own for as long as the process lives. The session's locks end with it, also by kill -9:
 * that is how the janitor of another process knows that this one is gone.
 */
export function makePresence({ url, log }: { url: string; log: Logger }): Presence {
  const held = new Map<string, PromiseWithResolvers<undefined>>();
  const closing = new AbortController();
  const closed = () => closing.signal.aborted;
  let isHealthy = false;
  let nudge = new AbortController();
  const running = run();

  async function run(): Promise<void> {
    for (let failures = 0; !closed(); failures++) {
      try {
        await keepLocks(() => (failures = 0));
      } catch (error) {
        if (closed()) break;
        log.warn({ err: error }, "the worker's sign of life was interrupted");
        await pause(Math.min(BACK_OFF_CAP_MS, BACK_OFF_BASE_MS * 2 ** failures), closing.signal);
      } finally {
        isHealthy = false;
      }
    }
  }

  /** One connection, until it is lost (rejects) or the presence closes. */
  async function keepLocks(onHealthy: () => void): Promise<void> {
    const client = makeClient(url);
    const lost = new AbortController();
    client.on('error', (error) => lost.abort(error));
    client.on('end', () => lost.abort(new Error('The server ended the connection.')));
    const locked = new Set<string>();
    try {
      await client.connect();
      while (!closed()) {
        nudge = new AbortController();
        await synchronise(client, locked);
        isHealthy = true;
        onHealthy();
        await pause(HEARTBEAT_MS, AbortSignal.any([nudge.signal, lost.signal]));
        lost.signal.throwIfAborted();
      }
    } finally {
      client.connection.stream.destroy();
    }
  }

  /**
   * Takes and drops locks until they are those of `held`; with nothing to do it is a heartbeat. A standby grants locks, too,
   * but nobody looks for them there.
   */
  async function synchronise(client: pg.Client, locked: Set<string>): Promise<void> {
    await assertPrimary(client, ANSWER_MS);
    for (const [id, taken] of held) {
      if (!locked.has(id)) {
        await client.query(lockCall('pg_advisory_lock_shared'), [id]);
        locked.add(id);
      }
      taken.resolve(undefined);
    }
    for (const id of [...locked].filter((candidate) => !held.has(candidate))) {
      await client.query(lockCall('pg_advisory_unlock_shared'), [id]);
      locked.delete(id);
    }
  }

  return {
    async hold(poolId) {
      const taken = held.get(poolId) ?? Promise.withResolvers<undefined>();
      held.set(poolId, taken);
      nudge.abort();
      await taken.promise;
    },
    drop(poolId) {
      held.get(poolId)?.resolve(undefined);
      held.delete(poolId);
      nudge.abort();
    },
    pools: () => [...held.keys()],
    healthy: () => isHealthy,
    async close() {
      closing.abort(new Error('The presence is closed.'));
      nudge.abort();
      for (const taken of held.values()) taken.resolve(undefined);
      await running;
    },
  };
}

function lockCall(lockFunction: string): string {
  return `select ${lockFunction}(${POOL_LOCK_KEY}) from (values ($1::text)) as pool (id)`;
}

function makeClient(url: string): pg.Client {
  return new pg.Client({
    connectionString: url,
    application_name: 'halyard worker presence',
    keepAlive: true,
    keepAliveInitialDelayMillis: 10_000,
    connectionTimeoutMillis: ANSWER_MS,
    query_timeout: ANSWER_MS,
  });
}
