import type { Router } from 'express';
import express from 'express';
import pg from 'pg';
import { withDeadline } from '../lib/wait.ts';
import { singleFlight } from '../lib/coalesce.ts';
import type { Logger } from '../lib/log.ts';
import { latestMigration } from '../postgres/migrate.ts';
import { DIFFERING_SETTINGS } from '../postgres/session.ts';
import { onlyMethods } from '../http/problems.ts';

/** How long the database may take to answer, in milliseconds. */
const DEADLINE_MS = 2_000;

export interface HealthOptions {
  readonly pool: pg.Pool;
  readonly log: Logger;
  /** What follows the database's notifications, if anything does. */
  readonly listener?: { healthy(): boolean } | undefined;
  /** Whether the server is ending: then it isn't ready, whatever else holds. */
  readonly draining: () => boolean;
  readonly deadlineMs?: number | undefined;
}

/**
 * /healthz: 200 while the process serves. /readyz: 200 when requests would succeed, changes included, otherwise 503; the body names
 * each check and the audit mode, and says no more than that, because neither needs a token.
 */
export function makeHealth(options: HealthOptions): Router {
  const router = express.Router();
  // Requests at the same time share one query: a client without a token can't take up the pool.
  const askOnce = singleFlight(() => ask(options));

  router
    .route('/healthz')
    .get((_request, response) => {
      response.json({ status: 'ok' });
    })
    .all(onlyMethods('GET'));

  router
    .route('/readyz')
    .get(async (_request, response) => {
      const { listener } = options;
      const { ahead, audit_mode, ...asked } = await askOnce();
      const checks = { ...asked, ...(listener && { listener: listener.healthy() }) };
      const draining = options.draining();
      const ready = !draining && Object.values(checks).every((ok) => ok);
      response.status(ready ? 200 : 503).json({
        status: draining ? 'draining' : ready ? 'ready' : 'not_ready',
        checks: Object.fromEntries(
          Object.entries(checks).map(([check, ok]) => [check, ok ? 'ok' : 'failed']),
        ),
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
  /** What of the session's settings would make requests fail or answer wrongly; null for nothing. */
  readonly differing: string | null;
}

const ASK = `select r.version, r.ahead, r.audit_mode, r.writable, r.privileges, ${DIFFERING_SETTINGS} as differing
  from app_private.readiness() as r`;

/** Asks the database what version it is at, and whether a change would work. A newer one is fine: migrations run before the code that needs them. */
async function ask({ pool, log, deadlineMs = DEADLINE_MS }: HealthOptions) {
  const needed = await latestMigration();
  try {
    const { rows } = await withDeadline(
      () => pool.query<Answer>(ASK),
      deadlineMs,
      `The database did not answer within ${deadlineMs} ms.`,
    );
    const [answer] = rows;
    if (answer === undefined) throw new Error('app_private.readiness gave no row.');
    return judge(answer, needed, log);
  } catch (error) {
    log.warn({ err: error }, 'not ready');
    return { ahead: false, audit_mode: null, database: isMissing(error), migrations: false };
  }
}

function judge(answer: Answer, needed: string, log: Logger) {
  const { version, ahead, audit_mode, writable, privileges, differing } = answer;
  if (!writable)
    log.warn('not ready: sessions are read only (default_transaction_read_only): no change works');
  if (!privileges)
    log.warn('not ready: the login may not become halyard_admin, or that may not change flags');
  if (differing !== null)
    log.warn({ differing }, 'not ready: settings that Halyard counts on differ');
  return {
    ahead,
    audit_mode,
    database: true,
    migrations: (version ?? '') >= needed,
    settings: differing === null,
    writable,
    privileges,
  };
}

/** The database answered, but lacks the function or the right to it (class 42) or its schema (3F): no migration ran here. */
function isMissing(error: unknown): boolean {
  return error instanceof pg.DatabaseError && /^(42|3F)/.test(error.code ?? '');
}
