import pg from 'pg';

/** One statement of a pipeline. */
export interface Statement {
  readonly text: string;
  readonly values?: readonly unknown[];
  /** Prepares it once for each connection. A name always goes with the same text, and has 63 bytes at most. */
  readonly name?: string | undefined;
  readonly rowMode?: 'array' | undefined;
}

/** Prepared statements that a connection keeps: GraphQL makes as many different ones as clients think of, and of the largest 100 took 120 MB. */
const MAX_PREPARED = 40;

/**
 * Sends statements to the database together and waits for all their answers: one round trip. They are one transaction, unless
 * there is one already or they begin one: the first that fails is the last that is run, and nothing of them stays.
 *
 * @returns the result of each
 * @throws the first error, which may be the commit's, or the connection's
 */
export async function pipeline(
  client: pg.ClientBase,
  statements: readonly Statement[],
): Promise<pg.QueryResult[]> {
  try {
    return await new Promise((resolve, reject) => {
      client.query(new Pipeline(statements, resolve, reject) as unknown as pg.Submittable);
    });
  } catch (error) {
    // Replace pg's stack trace, which points into its socket handler, by the caller's.
    if (error instanceof Error) Error.captureStackTrace(error, pipeline);
    throw error;
  }
}

/** The methods that pg calls on a query; its types know only `submit`. */
interface PgQuery {
  readonly name?: string;
  readonly text: string;
  submit(connection: PgConnection): Error | null;
  handleRowDescription(message: unknown): void;
  handleDataRow(message: unknown): void;
  handleCommandComplete(message: unknown, connection: PgConnection): void;
  handleEmptyQuery(connection: PgConnection): void;
  handleCopyInResponse(connection: PgConnection): void;
  handleCopyData(message: unknown, connection: PgConnection): void;
  handleReadyForQuery(connection: PgConnection): void;
}

interface PgConnection extends pg.Connection {
  /** Writes one message, unless the connection is gone. */
  _send(message: Buffer): void;
  readonly parsedStatements: Record<string, string>;
  readonly submittedNamedStatements: Record<string, string>;
}

/** The names of a connection's prepared statements, by pg's own account of them; the one that was used last at the end. */
const prepared = new WeakMap<PgConnection['parsedStatements'], Set<string>>();

/**
 * Several of pg's own queries that are sent as one, with a single Sync behind the last. PostgreSQL skips everything between an
 * error and the Sync, and commits at the Sync what no BEGIN has opened (Pipelining, in its protocol's documentation). To pg
 * it is one query of a custom class, like those of pg-cursor; the answers go to each of its queries in turn.
 *
 * This relies on what pg does inside: it was read against pg 8.23.0 and 8.23.1 (lib/client.js, lib/query.js, lib/connection.js).
 * pg's own `pipeline: true` puts a Sync behind each query, so a request's transaction takes `begin` and `commit` beside
 * settings and statement: 10 to 40 % more processor time (bench/benchmarks/pipeline.ts).
 */
class Pipeline {
  /** A benchmark reads them. */
  readonly statements: readonly Statement[];
  /** pg puts one of its own before it for query_timeout. */
  callback: (error: unknown) => void;
  readonly #queries: readonly PgQuery[];
  readonly #results: pg.QueryResult[] = [];
  #current = 0;

  constructor(
    statements: readonly Statement[],
    resolve: (results: pg.QueryResult[]) => void,
    reject: (error: unknown) => void,
  ) {
    this.statements = statements;
    let failure: unknown;
    const settle = (error: unknown, result?: unknown) => {
      failure ??= error;
      this.#results.push(result as pg.QueryResult);
    };
    this.#queries = statements.map(
      ({ values = [], ...statement }) =>
        new pg.Query(
          // Without values pg would send it by the simple protocol, which has a Sync of its own.
          { ...statement, values: [...values], queryMode: 'extended' } as pg.QueryConfig,
          settle,
        ) as unknown as PgQuery,
    );
    this.callback = (error) => {
      const reason = error ?? failure;
      if (reason === null || reason === undefined) resolve(this.#results);
      else reject(reason);
    };
  }

  /** pg keeps account of what has been prepared by the name and text of the query in hand. */
  get name(): string | undefined {
    return this.#queries[this.#current]?.name;
  }

  get text(): string | undefined {
    return this.#queries[this.#current]?.text;
  }

  submit(connection: PgConnection): Error | null {
    const messages: Buffer[] = [];
    const collecting = Object.create(connection, {
      sync: { value: () => undefined },
      _send: { value: (message: Buffer) => messages.push(message) },
    }) as PgConnection;
    // First, where nothing can have failed that would make the server pass over it.
    for (const { name } of this.#queries)
      if (name !== undefined) touchPreparedStatement(collecting, name);
    const error = this.#queries.map((query) => query.submit(collecting)).find(Boolean);
    connection.sync.call(collecting);
    connection._send(Buffer.concat(messages));
    return error ?? null;
  }

  handleRowDescription(message: unknown): void {
    this.#queries[this.#current]?.handleRowDescription(message);
  }

  handleDataRow(message: unknown): void {
    this.#queries[this.#current]?.handleDataRow(message);
  }

  handleCommandComplete(message: unknown, connection: PgConnection): void {
    this.#queries[this.#current++]?.handleCommandComplete(message, connection);
  }

  handleEmptyQuery(connection: PgConnection): void {
    this.#queries[this.#current++]?.handleEmptyQuery(connection);
  }

  handleCopyInResponse(connection: PgConnection): void {
    this.#queries[this.#current]?.handleCopyInResponse(connection);
  }

  handleCopyData(message: unknown, connection: PgConnection): void {
    this.#queries[this.#current]?.handleCopyData(message, connection);
  }

  handleError(error: unknown, connection: PgConnection): void {
    // What the server passed over has not been prepared.
    for (const { name } of this.#queries)
      if (name !== undefined) Reflect.deleteProperty(connection.submittedNamedStatements, name);
    this.callback(error);
  }

  handleReadyForQuery(connection: PgConnection): void {
    for (const query of this.#queries) query.handleReadyForQuery(connection);
    this.callback(null);
  }
}

/** Notes that a prepared statement is used, and closes the one that was used longest ago when there are too many. */
function touchPreparedStatement(connection: PgConnection, name: string): void {
  const { parsedStatements } = connection;
  const names = prepared.get(parsedStatements) ?? new Set();
  prepared.set(parsedStatements, names);
  names.delete(name);
  names.add(name);
  const [oldest] = names;
  if (names.size <= MAX_PREPARED || oldest === undefined) return;
  names.delete(oldest);
  connection.close({ type: 'S', name: oldest }, false);
  Reflect.deleteProperty(parsedStatements, oldest);
}
