import type pg from 'pg';
import type { Logger } from '../../lib/log.ts';
import { addJob } from '../../jobs/jobs.ts';

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
/** When somebody reads the trail, or purges it, at the moment. */
const RETRY_MS = 900_000;

/**
 * Purges the months of the trail that are older than audit_retention keeps, a transaction each, oldest first, up to one that
 * can't be purged. When that is only because of a reader, it tries again in a quarter of an hour.
 *
 * @returns the months that it looked at; none when the trail is kept forever
 * @throws the database's error; the months before it stay purged
 */
export async function retainAuditEvents({
  pool,
  log,
  stopping,
}: {
  readonly pool: pg.Pool;
  readonly log: Logger;
  readonly stopping: AbortSignal;
}): Promise<Month[]> {
  const months: Month[] = [];
  while (!stopping.aborted) {
    const month = await retainMonth(pool);
    if (month === null) break;
    months.push(month);
    if (month.outcome !== 'purged') {
      await postpone(pool, log, month);
      break;
    }
    log.info({ month: month.month, events: month.events }, 'a month of the audit trail was purged');
  }
  return months;
}

async function postpone(pool: pg.Pool, log: Logger, month: Month): Promise<void> {
  if (month.outcome === 'busy') {
    log.info(month, 'a month of the audit trail is purged later');
    await addJob(pool, 'retain_audit_events', { inMs: RETRY_MS });
  } else {
    log.warn(month, 'a month of the audit trail is old enough to be purged, and must be kept');
  }
}

/** Longer than the worker's statements may take otherwise. */
async function retainMonth(pool: pg.Pool): Promise<Month | null> {
  const client = await pool.connect();
  let committed = false;
  try {
    await client.query(`begin; set local statement_timeout = ${CHECK_MS}`);
    const { rows } = await client.query<Month>({
      text: 'select month::text, events, outcome, reason from app_private.retain_audit_events()',
      query_timeout: CHECK_MS,
    } as pg.QueryConfig);
    await client.query('commit');
    committed = true;
    return rows[0] ?? null;
  } finally {
    // After an error the connection is discarded, and its transaction with it.
    client.release(!committed);
  }
}
