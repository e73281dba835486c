import type { Router } from 'express';
import express from 'express';
import pg from 'pg';
import { withDeadline } from '../lib/wait.ts';
import { singleFlight } from '../lib/coalesce.ts';
import type { Logger } from '../lib/log.ts';
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
 * check, and says no more than that, because neither needs a token.
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
      const { ahead, ...asked } = await askOnce();
      const checks = { ...asked, ...(listener && { listener: listener.healthy() }) };
      const draining = options.draining();
      const ready = !draining && Object.values(checks).every((ok) => ok);
      response.status(ready ? 200 : 503).json({
        status: draining ? 'draining' : ready ? 'ready' : 'not_ready',
        checks: Object.fromEntries(
          Object.entries(checks).map(([check, ok]) => [check, ok ? 'ok' : 'failed']),
        ),
        // Changes work, and their events wait.
        ...(ahead && { trail: 'destination_ahead' }),
      });
    })
    .all(onlyMethods('GET'));

  return router;
}

/** Asks the database what version it is at. A newer one is fine: migrations run before the code that needs them. */
async function ask({ pool, log, deadlineMs = DEADLINE_MS }: HealthOptions) {
  const needed = await latestMigration();
  try {
    const { rows } = await withDeadline(
      () =>
        pool.query<{ version: string | null; ahead: boolean }>(
          'select app_private.schema_version() as version, app_private.destination_is_ahead() as ahead',
        ),
      deadlineMs,
      `The database did not answer within ${deadlineMs} ms.`,
    );
    const { version, ahead } = rows[0] ?? { version: null, ahead: false };
    return { database: true, migrations: (version ?? '') >= needed, ahead };
  } catch (error) {
    log.warn({ err: error }, 'not ready');
    return { database: isMissing(error), migrations: false, ahead: false };
  }
}

/** The database answered, but lacks the function or the right to it (class 42) or its schema (3F): no migration ran here. */
function isMissing(error: unknown): boolean {
  return error instanceof pg.DatabaseError && /^(42|3F)/.test(error.code ?? '');
}
