import type pg from 'pg';
import { makeChanges } from '../src/graphql/live/changes.ts';
import { makeExecutor } from '../src/graphql/execute.ts';
import type { Claims } from '../src/auth/claims.ts';
import { makePool } from '../src/postgres/pool.ts';
import type { Logger } from '../src/lib/log.ts';

/** What a request asks the database. */
export interface Statement {
  readonly text: string;
  readonly values: readonly unknown[];
}

/** Tells which statement PostGraphile makes of a query, by running it. */
export interface Recorder {
  /** @throws Error when the query fails, or takes another number of statements than one */
  statementOf(query: string, variables: Readonly<Record<string, unknown>>): Promise<Statement>;
  close(): Promise<void>;
}

/** An admin of these environments; null for all. */
export function adminOf(environments: readonly string[] | null): Claims {
  return {
    role: 'admin',
    userId: 'alice',
    email: 'alice@example.com',
    environments,
    expiresAt: null,
  };
}

/** Of a transaction, and not of what was asked; and whether there is an environment, which a process asks once for each. */
const FRAME =
  /^(?:begin|commit|rollback)$|^set |set_config\(|pg_is_in_recovery\(|require_environment\(/;

/**
 * @param url the authenticator's; of a database whose tables are logged, for PostGraphile doesn't show others
 */
export async function makeRecorder(url: string, log: Logger): Promise<Recorder> {
  const heard: Statement[] = [];
  const pool = makePool(url, { name: 'halyard bench', log });
  pool.on('connect', (client) => hear(client, heard));
  const changes = makeChanges(url, log);
  const executor = await makeExecutor({ pool, changes, production: true, log });
  return {
    async statementOf(query, variables) {
      heard.length = 0;
      const { errors } = await executor.run(
        { query, operationName: null, variables },
        { claims: adminOf(null), request: { requestId: 'bench' }, log },
      );
      const [statement, ...others] = heard.filter(({ text }) => !FRAME.test(text));
      if (errors !== undefined || statement === undefined || others.length > 0)
        throw new Error(`This is no query of one statement: ${JSON.stringify(errors ?? heard)}`);
      return statement;
    },
    async close() {
      await changes.close();
      await pool.end();
    },
  };
}

type Asked = pg.QueryConfig & {
  readonly statements?: readonly { text: string; values?: readonly unknown[] }[];
};

function hear(client: pg.PoolClient, heard: Statement[]): void {
  const query = client.query.bind(client) as (...args: unknown[]) => unknown;
  const hearing = (...args: unknown[]) => {
    const [asked, values = []] = args as [string | Asked, unknown[] | undefined];
    if (typeof asked === 'string') heard.push({ text: asked, values });
    // Of a flight (src/postgres/pipeline.ts), or by itself.
    else
      for (const { text, values = [] } of asked.statements ?? [asked]) heard.push({ text, values });
    return query(...args);
  };
  Object.assign(client, { query: hearing });
}
