import './environment.ts';

import type { ExecutionResult, GraphQLSchema } from 'postgraphile/graphql';
import type pg from 'pg';
import { execute, hookArgs, subscribe } from 'postgraphile/grafast';
import { makeSchema } from 'postgraphile/graphile-build';

import type { Claims } from '../../auth.ts';
import { pgSettings } from '../../db.ts';
import type { Settings } from '../../db.ts';
import type { Logger } from '../../log.ts';
import type { Changes } from './changes.ts';
import { makeService } from './connection.ts';
import { makeDocuments, operationIn } from './document.ts';
import { graphqlProblem } from './errors.ts';
import { checkLimits, coerceVariables } from './limits.ts';
import { preset } from './preset.ts';
import { makeReader } from './reader.ts';
import { failure, format, InvalidQuery } from './result.ts';
import type { Result } from './result.ts';
import { makeSubscriber, SUBSCRIBER } from './subscriptions.ts';

/** A GraphQL request as the client sent it, checked for its shape only. */
export interface GraphqlRequest {
  readonly query: string;
  readonly operationName: string | null;
  readonly variables: Readonly<Record<string, unknown>>;
}

/** Who asks. */
export interface Caller {
  readonly claims: Claims;
  readonly requestId: string;
  /** Knows the request's id. */
  readonly log: Logger;
}

export interface Engine {
  /** Runs a query or a mutation. Never rejects: what goes wrong is in the result, which has no data if nothing ran. */
  run(request: GraphqlRequest, caller: Caller): Promise<Result>;
  /** Starts a subscription: an iterator of results, or a result with errors alone. Never rejects. */
  subscribe(
    request: GraphqlRequest,
    caller: Caller,
  ): Promise<Result | AsyncGenerator<Result, void, void>>;
}

export interface EngineOptions {
  readonly pool: pg.Pool;
  readonly changes: Changes;
  readonly production: boolean;
  /** Milliseconds that a query or a mutation may take; 15,000 by default. */
  readonly executionMs?: number | undefined;
}

const EXECUTION_MS = 15_000;

interface RequestContext {
  readonly halyard: Caller;
}

/**
 * Reads the database's structure and makes the schema of it, which takes about 200 ms.
 *
 * @throws Error when the database can't be reached or isn't migrated
 */
export async function makeEngine(options: EngineOptions): Promise<Engine> {
  const { pool, changes, production } = options;
  const reader = makeReader(pool);
  const settings = new WeakMap<Caller, Settings>();
  /** One object for an operation: by it the reader knows a subscription. */
  function settingsOf(caller: Caller): Settings {
    const known = settings.get(caller) ?? pgSettings(caller.claims, caller.requestId);
    settings.set(caller, known);
    return known;
  }
  const { schema, resolvedPreset } = await makeSchema({
    extends: [preset],
    pgServices: [
      makeService(pool, reader, (context) =>
        settingsOf((context as unknown as RequestContext).halyard),
      ),
    ],
    grafast: {
      // Planning is work for the processor alone; a statement has its own, the database's timeout.
      timeouts: { planning: 1_000, execution: options.executionMs ?? EXECUTION_MS },
      context: (context) =>
        ({
          [SUBSCRIBER]: makeSubscriber({
            settings: settingsOf((context as unknown as RequestContext).halyard),
            reader,
            changes,
          }),
        }) as object,
    },
  });
  // Grafast counts from the beginning of the subscription, and would give up each result that comes after that.
  const lasting = {
    ...resolvedPreset,
    grafast: { ...resolvedPreset.grafast, timeouts: { planning: 1_000 } },
  };
  const documents = makeDocuments(schema, production);

  /** The arguments of grafast. @throws GraphQLError or ProblemError, or an array of them */
  async function prepare(request: GraphqlRequest, caller: Caller, subscribes: boolean) {
    const parsed = documents(request.query);
    if ('errors' in parsed) throw new InvalidQuery(parsed.errors);
    const { document } = parsed;
    const operation = operationIn(document, request.operationName);
    if (((operation.operation as string) === 'subscription') !== subscribes)
      throw graphqlProblem(
        'invalid_query',
        subscribes
          ? 'Send queries and mutations by HTTP POST.'
          : 'Subscribe by WebSocket, with the protocol graphql-transport-ws.',
      );
    const variables = coerceVariables(schema, document, operation, request.variables);
    checkLimits(schema, document, operation, variables);
    return hookArgs({
      schema,
      document,
      rootValue: null,
      contextValue: {},
      variableValues: request.variables,
      operationName: request.operationName,
      resolvedPreset: subscribes ? lasting : resolvedPreset,
      requestContext: { halyard: caller } as never,
    });
  }

  return {
    async run(request, caller) {
      try {
        const result = await execute(await prepare(request, caller, false));
        if (Symbol.asyncIterator in result) throw new Error('A query has no second result.');
        return format(result, caller.log);
      } catch (error) {
        return failure(error, caller.log);
      }
    },
    async subscribe(request, caller) {
      try {
        const result = await subscribe(await prepare(request, caller, true));
        return Symbol.asyncIterator in result
          ? formatAll(result as AsyncGenerator<ExecutionResult, void, void>, caller)
          : format(result, caller.log);
      } catch (error) {
        return failure(error, caller.log);
      }
    },
  };
}

/** The database's structure as a GraphQL schema, for schema/halyard.graphql. */
export async function readSchema(pool: pg.Pool): Promise<GraphQLSchema> {
  const { schema } = await makeSchema({
    extends: [preset],
    pgServices: [makeService(pool, makeReader(pool), undefined)],
  });
  return schema;
}

/** The last result is the error that the stream ends with, if it does. */
function formatAll(
  results: AsyncGenerator<ExecutionResult, void, void>,
  caller: Caller,
): AsyncGenerator<Result, void, void> {
  let ended = false;
  const end = async (): Promise<IteratorResult<Result, void>> => {
    ended = true;
    await results.return();
    return { done: true, value: undefined };
  };
  return {
    [Symbol.asyncIterator]() {
      return this;
    },
    async [Symbol.asyncDispose]() {
      await end();
    },
    async next() {
      if (ended) return { done: true, value: undefined };
      try {
        const result = await results.next();
        return result.done === true
          ? { done: true, value: undefined }
          : { done: false, value: format(result.value, caller.log) };
      } catch (error) {
        ended = true;
        return { done: false, value: failure(error, caller.log) };
      }
    },
    return: end,
    throw: end,
  };
}
