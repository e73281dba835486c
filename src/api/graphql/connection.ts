import './environment.ts';

import type pg from 'pg';
import { makePgAdaptorWithPgClient, makePgService } from 'postgraphile/adaptors/pg';

import { DatabaseUnavailableError } from '../../db.ts';
import { SCHEMAS } from './preset.ts';

type Service = GraphileConfig.PgServiceConfiguration;
type WithPgClient = ReturnType<typeof makePgAdaptorWithPgClient>;

/**
 * The database as PostGraphile sees it: the pool, which stays the caller's, with errors that say what happened.
 *
 * @param settings the settings of a request's transactions
 */
export function makeService(pool: pg.Pool, settings: Service['pgSettings']): Service {
  const plain = makePgAdaptorWithPgClient(patient(pool));
  const withPgClient = Object.assign(
    async (pgSettings: Parameters<WithPgClient>[0], work: Parameters<WithPgClient>[1]) => {
      const failures: unknown[] = [];
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
        // A connection that is lost can't be rolled back either, and it is the loss that matters.
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

/** The pool, with Halyard's own error for having no connection to give. */
function patient(pool: pg.Pool): pg.Pool {
  const connect = () =>
    pool.connect().catch((error: unknown) => {
      throw new DatabaseUnavailableError(error);
    });
  return { connect } as unknown as pg.Pool;
}
