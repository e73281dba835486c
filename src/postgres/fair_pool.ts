import type pg from 'pg';
import { makeFairQueue, QueueTimeoutError, type FairQueue } from '../lib/fair_queue.ts';
import { CONNECT_TIMEOUT_MS } from './connection.ts';
import { connect, noConnection } from './pool.ts';
import { ASKER, type Settings } from './request_settings.ts';

/** Connections that are left for others while one user has all the rest. */
const SPARED = 2;
/** Connections that no user gets, so that /readyz has one: a load balancer must not take the process out because two users are slow. */
const RESERVED = 1;

/** The queue of each pool that is shared out by user. */
const queues = new WeakMap<pg.Pool, FairQueue>();

/** The users of connections that are out. */
const holders = new WeakMap<pg.PoolClient, string>();

/**
 * Hands a pool's connections out by user from now on: to one alone all but two, to several an equal share of all but one.
 *
 * @param queuePerUser requests of one user that may wait for one
 */
export function shareByUser(pool: pg.Pool, queuePerUser: number): void {
  const { max } = pool.options;
  const queue = makeFairQueue({
    slots: Math.max(1, max - RESERVED),
    perUser: Math.max(1, max - SPARED),
    maxQueued: queuePerUser,
    waitMs: CONNECT_TIMEOUT_MS,
  });
  queues.set(pool, queue);
  pool.on('release', (_error, client) => {
    const user = holders.get(client);
    holders.delete(client);
    if (user !== undefined) queue.give(user);
  });
}

/**
 * A connection for the user of the settings, once it is that user's turn where the pool is shared out.
 *
 * @throws ProblemError too_many_requests where the user's queue is full, or the client left; DatabaseUnavailableError when there is none in time
 */
export async function connectAs(pool: pg.Pool, settings: Settings): Promise<pg.PoolClient> {
  const queue = queues.get(pool);
  if (queue === undefined) return connect(pool);
  const asker = settings[ASKER];
  try {
    await queue.take(asker);
  } catch (error) {
    throw error instanceof QueueTimeoutError ? noConnection(pool, error) : error;
  }
  try {
    const client = await connect(pool);
    holders.set(client, asker.user);
    return client;
  } catch (error) {
    queue.give(asker.user);
    throw error;
  }
}

/** Refuses a request of a user whose queue is full, before any of it runs. @throws ProblemError too_many_requests */
export function requireRoom(pool: pg.Pool, settings: Settings): void {
  queues.get(pool)?.requireRoom(settings[ASKER].user);
}

/** Requests that wait for a connection, in the pool and before it. */
export function waitingFor(pool: pg.Pool): number {
  return pool.waitingCount + (queues.get(pool)?.waiting ?? 0);
}
