import './environment.ts';

import type pg from 'pg';
import { makePgAdaptorWithPgClient, makePgService } from 'postgraphile/adaptors/pg';

import { DatabaseUnavailableError, isLost } from '../../db.ts';
import { SCHEMAS } from './preset.ts';

type Service = GraphileConfig.PgServiceConfiguration;
type WithPgClient = ReturnType<typeof makePgAdaptorWithPgClient>;

/**
 * The database as PostGraphile sees it: the pool, which stays the caller's, with errors that say what happened.
 *
 * @param settings the settings of a request's transactions
 */
export function makeService(pool: pg.Pool, settings: Service['pgSettings']): Service {
  const withPgClient = Object.assign(
    async (pgSettings: Parameters<WithPgClient>[0], work: Parameters<WithPgClient>[1]) => {
      const failures: unknown[] = [];
      let connection: pg.PoolClient | undefined;
      const plain = makePgAdaptorWithPgClient(
        connectingBy(async () => (connection = await connectTo(pool))),
      );
      try {
        return await plain(pgSettings, async (client) => {
          try {
            return await work(client);
          } catch (error) {
            failures.push(error);
            throw error;
          }
        });
      } catch (error) {
        if (connection !== undefined && isLost(connection))
          throw new DatabaseUnavailableError(failures[0] ?? error);
        // If rolling back failed too, it is the first error that matters.
        throw failures.length > 0 ? failures[0] : error;
      }
    },
    { release: () => undefined },
  ) as WithPgClient;
  const service = makePgService({ pool, schemas: SCHEMAS, pubsub: false });
  return {
    ...service,
    adaptor: { ...service.adaptor, createWithPgClient: () => withPgClient },
    ...(settings === undefined ? {} : { pgSettings: settings }),
  };
}

/** A connection, or Halyard's own error for having none to give. */
function connectTo(pool: pg.Pool): Promise<pg.PoolClient> {
  return pool.connect().catch((error: unknown) => {
    throw new DatabaseUnavailableError(error);
  });
}

/** The adaptor asks a pool for nothing but a connection. */
function connectingBy(connect: () => Promise<pg.PoolClient>): pg.Pool {
  return { connect } as unknown as pg.Pool;
}
