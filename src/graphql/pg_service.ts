import './environment.ts';
import { hash } from 'node:crypto';
import type pg from 'pg';
import { makePgAdaptorWithPgClient, makePgService } from 'postgraphile/adaptors/pg';
import { connectAs } from '../postgres/fair_pool.ts';
import { connect, DatabaseUnavailableError, isLost } from '../postgres/pool.ts';
import type { Settings } from '../postgres/request_settings.ts';
import { SCHEMAS } from './schema/preset.ts';
import type { Reader } from './live/reader.ts';

type Service = GraphileConfig.PgServiceConfiguration;
type WithPgClient = ReturnType<typeof makePgAdaptorWithPgClient>;
type PgClient = Parameters<Parameters<WithPgClient>[1]>[0];
/** The client that PostGraphile gets. It has no raw one, because each query may have a connection of its own. */
type Client = Omit<PgClient, 'rawClient'>;

/** The database as PostGraphile sees it, with errors that say what happened. The pool stays the caller's. */
export function makeService(
  pool: pg.Pool,
  reader: Reader,
  settings: Service['pgSettings'],
): Service {
  const interactively = interactiveTransactions(pool);
  const withPgClient = Object.assign(
    async (pgSettings: Settings | null, work: (client: Client) => unknown) =>
      await (pgSettings === null
        ? interactively(null, work)
        : work(makeClient(reader, pgSettings, interactively))),
    { release: () => undefined },
  );
  const service = makePgService({ pool, schemas: SCHEMAS, pubsub: false });
  return {
    ...service,
    adaptor: {
      ...service.adaptor,
      createWithPgClient: () => withPgClient as unknown as WithPgClient,
    },
    ...(settings === undefined ? {} : { pgSettings: settings }),
  };
}

/**
 * A client whose queries are a transaction each, settings and all, in one round trip. PostGraphile's own begins one round all
 * queries of a client; but it promises that of withTransaction only, and asks one query of each client.
 */
function makeClient(reader: Reader, settings: Settings, interactively: WithPgClient): Client {
  return {
    async query({ text, values = [], arrayMode, name }) {
      const { rows, rowCount } = await reader.query(settings, {
        text,
        values: values as unknown[],
        // It names queries only, by longer hashes than there is room for beside the role.
        name: name?.slice(0, 40) ?? hash('sha1', text),
        ...(arrayMode === true && { rowMode: 'array' }),
      });
      return { rows: rows as never[], rowCount, notices: [] };
    },
    withTransaction: (work) =>
      interactively({ ...settings }, (client) => client.withTransaction(work as never)),
  };
}

/** PostGraphile's own adaptor, with a round trip for each step. */
function interactiveTransactions(pool: pg.Pool): WithPgClient {
  return async (pgSettings, work) => {
    const failures: unknown[] = [];
    let connection: pg.PoolClient | undefined;
    // The adaptor asks a pool for nothing but a connection.
    const asked = pgSettings as unknown as Settings | null;
    const connecting = {
      connect: async () =>
        (connection = await (asked === null ? connect(pool) : connectAs(pool, asked))),
    };
    const plain = makePgAdaptorWithPgClient(connecting as unknown as pg.Pool);
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
  };
}
