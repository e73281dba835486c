import express, { type RequestHandler, type Router } from 'express';
import pg from 'pg';
import { withDeadline } from '../lib/wait.ts';
import { singleFlight } from '../lib/coalesce.ts';
import { ExplainedError } from '../lib/explained.ts';
import type { Logger } from '../lib/log.ts';
import { makeOutage, type Outage } from '../lib/outage.ts';
import { latestMigration } from '../postgres/migrate.ts';
import { pipeline, type Statement } from '../postgres/pipeline.ts';
import { probe } from '../postgres/pool.ts';
import { DIFFERING_SETTINGS } from '../postgres/session.ts';
import { onlyMethods } from '../http/problems.ts';

/** How long the database may take to answer, in milliseconds. */
const DEADLINE_MS = 2_000;

export interface HealthOptions {
  readonly pool: pg.Pool;
  readonly log: Logger;
  /** The listener to the database's notifications, if there is one. */
  readonly listener?: { healthy(): boolean } | undefined;
  /** Whether the server is ending: then it isn't ready. */
  readonly draining: () => boolean;
  readonly deadlineMs?: number | undefined;
}

/**
 * /healthz: 200 while the process serves. /readyz: 200 when requests would succeed, changes included, otherwise 503; the body names
 * each check, the reason by a code, and the audit mode, and says no more than that, because neither needs a token.
 */
export function makeHealth(options: HealthOptions): Router {
  const router = express.Router();
  // Requests at the same time share one query: a client without a token can't take up the pool.
  const outage = makeOutage(options.log, {
    failing: 'not ready',
    back: 'ready again, as far as the database is concerned',
  });
  const askOnce = singleFlight(() => ask(options, outage));

  const ping: RequestHandler = (_request, response) => void response.json({ status: 'ok' });
  router.route('/healthz').get(ping).all(onlyMethods('GET'));
  router
    .route('/readyz')
    .get(async (_request, response) => {
      const { listener } = options;
      const { ahead, audit_mode, ...asked } = await askOnce();
      const checks = { ...asked, ...(listener && { listener: listener.healthy() }) };
      const draining = options.draining();
      const ready = !draining && Object.values(checks).every((ok) => ok);
      const results = Object.entries(checks).map(([check, ok]) => [check, ok ? 'ok' : 'failed']);
      response.status(ready ? 200 : 503).json({
        status: draining ? 'draining' : ready ? 'ready' : 'not_ready',
        ...(ready || draining ? {} : { reason: reasonOf(checks) }),
        // The code alone doesn't say what it takes, and this says nothing about who or what is here.
        ...('prepared' in asked && !asked.prepared && { detail: NEEDS_PREPARED }),
        checks: Object.fromEntries(results) as object,
        ...(audit_mode === null ? {} : { audit_mode }),
        // Changes work, and their events wait.
        ...(ahead && { trail: 'destination_ahead' }),
      });
    })
    .all(onlyMethods('GET'));

  return router;
}

interface Answer {
  readonly version: string | null;
  /** Whether a destination has more of the trail than this database. */
  readonly ahead: boolean;
  readonly audit_mode: string | null;
  readonly writable: boolean;
  readonly privileges: boolean;
  /** The session's settings that would make requests fail or answer wrongly; null for none. */
  readonly differing: string | null;
}

/**
 * What PgBouncer makes of prepared statements where it keeps none (26000: this client's are gone; 42P05: another client's have the same
 * name), and of a transaction where it pools statements (08P01).
 */
const POOLER_STATES: ReadonlySet<string> = new Set(['26000', '42P05', '08P01']);

const NEEDS_PREPARED =
  'A pooler between the API and PostgreSQL forgets prepared statements, which requests need: it must be PgBouncer 1.21 or later with max_prepared_statements above 0, and pool_mode transaction or session.';

/** The database is there, and a pooler before it that requests fail by. */
class PoolerError extends ExplainedError {
  override readonly name = 'PoolerError';
}

/** A prepared statement, in two transactions as requests use it. */
const PREPARED: Statement = { name: 'readyz', text: 'select' };

/** @throws PoolerError, and the connection's error */
async function assertKeepsPrepared(client: pg.ClientBase): Promise<void> {
  try {
    await pipeline(client, [PREPARED]);
    await pipeline(client, [{ text: 'begin' }, PREPARED, { text: 'commit' }]);
  } catch (error) {
    if (error instanceof pg.DatabaseError && POOLER_STATES.has(error.code ?? ''))
      throw new PoolerError(NEEDS_PREPARED, { cause: error });
    throw error;
  }
}

const ASK = `select r.version, r.ahead, r.audit_mode, r.writable, r.privileges, ${DIFFERING_SETTINGS} as differing
  from app_private.readiness() as r`;

/** Asks the database what version it is at, and whether a change would work. A newer one is fine: migrations run before the code that needs them. */
async function ask({ pool, deadlineMs = DEADLINE_MS }: HealthOptions, outage: Outage) {
  const needed = await latestMigration();
  try {
    const answer = await withDeadline(
      () => probe(pool, askOn, (found) => problemOf(found) === null),
      deadlineMs,
      `The database did not answer within ${deadlineMs} ms.`,
    );
    const problem = problemOf(answer);
    if (problem === null) outage.back();
    else outage.failed(new Error(problem), {}, problem);
    return judge(answer, needed);
  } catch (error) {
    outage.failed(error);
    const none = { ahead: false, audit_mode: null };
    if (error instanceof PoolerError) return { ...none, database: true, prepared: false };
    // Insufficient privilege: what is asked is there.
    if (error instanceof pg.DatabaseError && error.code === '42501')
      return { ...none, database: true, privileges: false };
    return { ...none, database: isMissing(error), migrations: false };
  }
}

async function askOn(client: pg.ClientBase): Promise<Answer> {
  await assertKeepsPrepared(client);
  const [row] = (await client.query<Answer>(ASK)).rows;
  if (row === undefined) throw new Error('app_private.readiness gave no row.');
  return row;
}

function judge({ version, differing, ...answer }: Answer, needed: string) {
  const migrations = (version ?? '') >= needed;
  return { database: true, prepared: true, migrations, settings: differing === null, ...answer };
}

/** The reason why the database takes no changes, for the log; null for none. */
function problemOf({ writable, privileges, differing }: Answer): string | null {
  if (!writable) return 'Sessions are read only (default_transaction_read_only): no change works.';
  if (!privileges)
    return 'The login isn’t halyard_authenticator, or may not become halyard_admin, or that may not change flags: run setup and migrate.';
  return differing === null ? null : `Settings that Halyard counts on differ: ${differing}.`;
}

/** The reason for each check that fails, that which the others hang on first. */
const REASONS: Readonly<Record<string, string>> = {
  database: 'database_unavailable',
  prepared: 'prepared_statements_lost',
  migrations: 'not_migrated',
  writable: 'not_writable',
  privileges: 'privileges_missing',
  settings: 'settings_differ',
  listener: 'not_listening',
};

function reasonOf(checks: Readonly<Record<string, boolean>>): string | undefined {
  return Object.entries(REASONS).find(([check]) => checks[check] === false)?.[1];
}

/** The database answered, but lacks the function (class 42) or its schema (3F): no migration ran here. */
function isMissing(error: unknown): boolean {
  return error instanceof pg.DatabaseError && /^(42|3F)/.test(error.code ?? '');
}
