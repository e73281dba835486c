import './environment.ts';
import { hash } from 'node:crypto';
import type { DocumentNode, OperationDefinitionNode } from 'postgraphile/graphql';
import type pg from 'pg';
import { execute, hookArgs, subscribe, type GrafastSubscriber } from 'postgraphile/grafast';
import { makeSchema } from 'postgraphile/graphile-build';
import type { Denial } from '../audit/denials/recorder.ts';
import type { Authentication } from '../auth/auth.ts';
import { userKey, type Claims } from '../auth/claims.ts';
import { requireRoom } from '../postgres/fair_pool.ts';
import { ASKER, pgSettings, type RequestIds, type Settings } from '../postgres/request_settings.ts';
import { makeFairQueue, type Asker } from '../lib/fair_queue.ts';
import type { Logger } from '../lib/log.ts';
import type { Changes } from './live/changes.ts';
import { makeService } from './pg_service.ts';
import { deniedIn, explainDenials, type Run } from './denials.ts';
import { makeDocuments, operationIn } from './documents.ts';
import { failure, format, graphqlProblem, InvalidQuery, type Result } from './errors.ts';
import { makeSubscriptionSource } from './live/subscription_source.ts';
import type { Results, SubscribedEntity } from './live/subscription_source.ts';
import { checkFilters, makeEnvironmentCheck } from './filters.ts';
import { checkLimits } from './limits.ts';
import { coerceVariables, textOfVariables } from './variables.ts';
import { makePlanning } from './planning.ts';
import { makeBoundedPlans } from './plans.ts';
import { preset } from './schema/preset.ts';
import { CLAIMS } from './schema/me.ts';
import { makeReader, authorizationScope } from './live/reader.ts';
import { makeSubscriber, resultOf, SUBSCRIBER } from './schema/subscriptions.ts';

/**
 * Subscriptions that begin, look or execute at the same time. Each takes a connection or two, of which others need most; most of
 * their time is the processor's, which more at once would not make less.
 */
const TURNS = { slots: 3, perUser: 3 } as const;

/** Characters of a subscription's document, which takes 75 times as many bytes for as long as the subscription is open. */
const MAX_SUBSCRIPTION_LENGTH = 4_000;
const TOO_LONG = `A subscription may have ${MAX_SUBSCRIPTION_LENGTH} characters at most.`;

/** A GraphQL request as the client sent it, checked for its shape only. */
export interface GraphqlRequest {
  readonly query: string;
  readonly operationName: string | null;
  readonly variables: Readonly<Record<string, unknown>>;
}

/** The options of both ends of GraphQL: HTTP and WebSocket. */
export interface EndOptions {
  /** Throws DatabaseUnavailableError while there is none. */
  readonly executor: () => Executor;
  readonly authentication: Authentication;
  readonly log: Logger;
  /** Hears of what verified tokens were denied. */
  readonly onDenied: ((denial: Denial) => void) | undefined;
}

/** The user of an operation, and where its answer goes. */
interface Caller {
  readonly claims: Claims;
  readonly request: RequestIds;
  /** Knows the request's id. */
  readonly log: Logger;
  /** The answer. When it closes before, the request leaves the queues in which it waits. */
  readonly client?: Asker['client'];
}

/** The settings of an operation's transactions, and its subscriber. */
interface Running {
  /** Of its transactions. */
  readonly settings: Settings;
  /** Of the verified token; a subscription shares its answers among users, so it has none. */
  readonly claims?: Claims;
  readonly subscriber?: GrafastSubscriber;
}

const runningIn = (context: object) => (context as { halyard: Running }).halyard;

/**
 * Reads the database's structure and makes the schema of it, which takes about 200 ms.
 *
 * @param options.executionMs milliseconds that a query or a mutation may take
 * @param options.queuePerUser operations of one user that may wait for their turn
 * @throws Error when the database can't be reached or isn't migrated
 */
export async function makeExecutor(options: {
  readonly pool: pg.Pool;
  readonly changes: Changes;
  readonly production: boolean;
  readonly executionMs?: number | undefined;
  readonly queuePerUser?: number | undefined;
  readonly log: Logger;
  readonly onDenied?: ((denial: Denial) => void) | undefined;
}) {
  const { pool, changes, production, log, onDenied } = options;
  const { executionMs = 15_000, queuePerUser = 256 } = options;
  const planning = makePlanning(queuePerUser);
  const reader = makeReader(pool);
  const turns = makeFairQueue(TURNS);
  const source = makeSubscriptionSource({ changes, reader, turns, planning, log });
  const { schema, resolvedPreset } = await makeSchema({
    extends: [preset],
    plugins: [makeBoundedPlans()],
    pgServices: [makeService(pool, reader, (context) => runningIn(context).settings)],
    grafast: {
      // Planning is work for the processor alone; a statement has its own, the database's timeout.
      timeouts: { planning: 1_000, execution: executionMs },
      context: (context) => {
        const { subscriber, claims } = runningIn(context);
        return { [SUBSCRIBER]: subscriber, [CLAIMS]: claims } as object;
      },
    },
  });
  // Nobody waits for a result of a subscription, so only its statements have a timeout.
  const lasting = {
    ...resolvedPreset,
    grafast: { ...resolvedPreset.grafast, timeouts: { planning: 1_000 } },
  };
  const documents = makeDocuments(schema, production);
  const requireEnvironments = makeEnvironmentCheck(pool);

  /** @throws GraphQLError, ProblemError or InvalidQuery */
  function check(request: GraphqlRequest, subscribes: boolean) {
    if (subscribes && request.query.length > MAX_SUBSCRIPTION_LENGTH)
      throw graphqlProblem('invalid_query', TOO_LONG);
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
    const isLarge = checkLimits(schema, document, operation, variables);
    const environments = checkFilters(document, operation, variables);
    return { document, operation, isLarge, environments };
  }

  function argumentsOf(request: GraphqlRequest, document: DocumentNode, running: Running) {
    return hookArgs({
      schema,
      document,
      rootValue: null,
      contextValue: {},
      variableValues: request.variables,
      operationName: request.operationName,
      resolvedPreset: running.subscriber === undefined ? resolvedPreset : lasting,
      requestContext: { halyard: running } as never,
    });
  }

  /**
   * Checks and plans a query or a mutation in its user's turns, and starts it.
   *
   * @throws as `check` and makePlanning's turns do
   */
  async function start(request: GraphqlRequest, claims: Claims, settings: Settings) {
    const asker = { ...settings[ASKER], isLimited: true };
    const { isLarge, ...checked } = await planning.run(asker, () => check(request, false));
    await requireEnvironments(checked.environments, claims, settings);
    const endLarge = isLarge ? await planning.beginLarge(asker) : () => undefined;
    // In an object, because what is running isn't to be waited for in the turn.
    const { running } = await planning
      .run(asker, async () => {
        const args = await argumentsOf(request, checked.document, { settings, claims });
        return { running: Promise.resolve(execute(args)) };
      })
      .catch((error: unknown) => {
        endLarge();
        throw error;
      });
    whenSent(asker.client, running, endLarge);
    return { ...checked, running };
  }

  function report(result: Result, run: Run, { claims, request }: Caller): void {
    if (onDenied === undefined) return;
    for (const denied of deniedIn(result, run)) onDenied({ claims, request, ...denied });
  }

  return {
    /** Runs a query or a mutation. Never rejects: what goes wrong is in the result, which has no data if nothing ran. */
    async run(request: GraphqlRequest, caller: Caller): Promise<Result> {
      const { claims, log, client } = caller;
      try {
        // Its statements wait in any case: what has begun isn't to fail half-way because the queue is full.
        const settings = pgSettings(claims, caller.request, { client });
        requireRoom(pool, settings);
        const { running, ...checked } = await start(request, claims, settings);
        const run = { ...checked, role: claims.role, variables: request.variables };
        const result = await running;
        if (Symbol.asyncIterator in result) throw new Error('A query has no second result.');
        const formatted = format(explainDenials(result, run), log);
        report(formatted, run, caller);
        return formatted;
      } catch (error) {
        return failure(error, log);
      }
    },
    subscriptions: () => source.size,
    /** Starts a subscription: an iterator of results as JSON text, or a result with errors alone. Never rejects. */
    async subscribe(request: GraphqlRequest, caller: Caller): Promise<Result | Results> {
      const { claims, log } = caller;
      const user = userKey(claims);
      // Now, because the client may count on it from now on: it waits for its turn, and for the database, before it is followed.
      const start = source.begin();
      const follow = async () => {
        const rights = authorizationScope(claims);
        const checked = await planning.run(rights[ASKER], () => check(request, true));
        await requireEnvironments(checked.environments, claims, rights);
        const run = { ...checked, role: claims.role, variables: request.variables };
        const entity: SubscribedEntity = {
          key: keyOf(request, run.operation, rights),
          ...{ rights, user, log },
          run: async (settings, lookUp) => {
            const running = { settings, subscriber: makeSubscriber(lookUp) };
            const { results } = await planning.run(rights[ASKER], async () => {
              const args = await argumentsOf(request, run.document, running);
              return { results: Promise.resolve(subscribe(args)) };
            });
            const result = await resultOf((await results) as Parameters<typeof resultOf>[0]);
            return result && explainDenials(result, run);
          },
        };
        const followed = await source.follow(entity, start);
        if (!(Symbol.asyncIterator in followed)) report(followed, run, caller);
        return followed;
      };
      try {
        // Parsing and planning keep the processor busy, a document that was never seen before for longest.
        return await turns.run({ user }, follow);
      } catch (error) {
        return failure(error, log);
      } finally {
        start.end();
      }
    },
    close: source.close,
  };
}

export type Executor = Awaited<ReturnType<typeof makeExecutor>>;

/** Calls `end` once the answer has gone out or has no reader any more; where no client is known, once it is made. */
function whenSent(client: Asker['client'], made: Promise<unknown>, end: () => void): void {
  if (client === undefined) made.then(end, end);
  else if (client.destroyed) end();
  else client.once('close', end);
}

/** The same key for requests that have the same answers, by any user with these rights. */
function keyOf(
  request: GraphqlRequest,
  operation: OperationDefinitionNode,
  rights: Settings,
): string {
  const name = operation.name?.value ?? null;
  const all = [rights, request.query, name, textOfVariables(operation, request.variables)];
  return hash('sha256', JSON.stringify(all));
}
