import type pg from 'pg';
import { addJob } from '../../jobs/jobs.ts';
import type { Logger } from '../../lib/log.ts';
import { inTransaction } from '../../postgres/own_transaction.ts';
import type { TimedQuery } from '../../postgres/session.ts';

/** A month of the trail that is old enough to go, and what became of it. */
export interface Month {
  /** Its first day, `YYYY-MM-DD`; null for a partition that isn't a month, or another purge at work. */
  readonly month: string | null;
  readonly events: string | null;
  /** `kept` needs a person, or time; `busy` needs another try. */
  readonly outcome: 'purged' | 'purgeable' | 'kept' | 'busy';
  /** Why it isn't purged, as a sentence. */
  readonly reason: string | null;
}

/** Each event's hash is checked before it is purged, some 50,000 a second: a month of a hundred million takes half an hour. */
const CHECK_MS = 3_600_000;
/** When another session reads or purges the trail. */
const RETRY_MS = 900_000;

/**
 * Purges the months of the trail that are older than audit_retention keeps, a transaction each, oldest first, up to one that
 * can't be purged. When that is only because of a reader, it tries again in a quarter of an hour.
 *
 * @throws the database's error; the months before it stay purged
 */
export async function retainAuditEvents(options: {
  readonly pool: pg.Pool;
  readonly log: Logger;
  readonly stopping: AbortSignal;
}): Promise<void> {
  const { pool, log, stopping } = options;
  while (!stopping.aborted) {
    const month = await retainMonth(pool);
    if (month === null) return;
    if (month.outcome === 'purged') {
      const { month: name, events } = month;
      log.info({ month: name, events }, 'a month of the audit trail was purged');
    } else if (month.outcome === 'busy') {
      log.info(month, 'a month of the audit trail is purged later');
      return addJob(pool, 'retain_audit_events', { inMs: RETRY_MS });
    } else {
      log.warn(month, 'a month of the audit trail is old enough to be purged, and must be kept');
      return;
    }
  }
}

/** Longer than the worker's statements may take otherwise. */
async function retainMonth(pool: pg.Pool): Promise<Month | null> {
  const query: TimedQuery = {
    text: 'select month::text, events, outcome, reason from app_private.retain_audit_events()',
    query_timeout: CHECK_MS,
  };
  return inTransaction(
    pool,
    async (client) => (await client.query<Month>(query)).rows[0] ?? null,
    `begin; set local statement_timeout = ${CHECK_MS}`,
  );
}
