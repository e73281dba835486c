import type { Router } from 'express';
import express from 'express';
import pg from 'pg';
import { withDeadline } from '../lib/wait.ts';
import { singleFlight } from '../lib/coalesce.ts';
import type { Logger } from '../lib/log.ts';
import { makeOutage, type Outage } from '../lib/outage.ts';
import { latestMigration } from '../postgres/migrate.ts';
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
 * /healthz: 200 while the process serves. /readyz: 200 when requests would succeed, otherwise 503; the body names each
 * check, and the reason by a code, and says no more than that, because neither needs a token.
 */
export function makeHealth(options: HealthOptions): Router {
  const router = express.Router();
  // Requests at the same time share one query: a client without a token can't take up the pool.
  const outage = makeOutage(options.log, {
    failing: 'not ready',
    back: 'the database answers again',
  });
  const askOnce = singleFlight(() => ask(options, outage));

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
      const checks = { ...(await askOnce()), ...(listener && { listener: listener.healthy() }) };
      const draining = options.draining();
      const ready = !draining && Object.values(checks).every((ok) => ok);
      response.status(ready ? 200 : 503).json({
        status: draining ? 'draining' : ready ? 'ready' : 'not_ready',
        ...(ready || draining ? {} : { reason: reasonOf(checks) }),
        checks: Object.fromEntries(
          Object.entries(checks).map(([check, ok]) => [check, ok ? 'ok' : 'failed']),
        ),
      });
    })
    .all(onlyMethods('GET'));

  return router;
}

/** Asks the database what version it is at. A newer one is fine: migrations run before the code that needs them. */
async function ask({ pool, deadlineMs = DEADLINE_MS }: HealthOptions, outage: Outage) {
  const needed = await latestMigration();
  try {
    const { rows } = await withDeadline(
      () =>
        pool.query<{ version: string | null }>('select app_private.schema_version() as version'),
      deadlineMs,
      `The database did not answer within ${deadlineMs} ms.`,
    );
    outage.back();
    return { database: true, migrations: (rows[0]?.version ?? '') >= needed };
  } catch (error) {
    outage.failed(error);
    return { database: isMissing(error), migrations: false };
  }
}

/** Why it isn't ready: of what is missing that which the rest hangs on. */
function reasonOf({ database, migrations }: { database: boolean; migrations: boolean }): string {
  if (!database) return 'database_unavailable';
  return migrations ? 'not_listening' : 'not_migrated';
}

/** The database answered, but lacks the function or the right to it (class 42) or its schema (3F): no migration ran here. */
function isMissing(error: unknown): boolean {
  return error instanceof pg.DatabaseError && /^(42|3F)/.test(error.code ?? '');
}
