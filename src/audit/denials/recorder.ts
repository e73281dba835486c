import type pg from 'pg';

import type { Claims } from '../../auth/claims.ts';
import { coalesce } from '../../lib/coalesce.ts';
import type { ProblemCode } from '../../lib/errors.ts';
import type { Logger } from '../../lib/log.ts';
import { makeOutage } from '../../lib/outage.ts';
import { loginSettings, type RequestIds, type Settings } from '../../postgres/request_settings.ts';
import { queryAs } from '../../postgres/transaction.ts';

/** An attempt that was denied (403). */
export interface Denial {
  /** Of the verified token. */
  readonly claims: Claims;
  readonly request: RequestIds;
  /** Method and route as `PATCH /api/admin/flags/:flagKey`, or operation and root field as `mutation cancelFlagSchedule`. */
  readonly operation: string;
  /** Of the answer. */
  readonly code: ProblemCode;
  /** What the request names, as the client sent it; the database takes a valid name only. */
  readonly flagKey?: string | undefined;
  readonly environment?: string | undefined;
}

/** The denials of one user that wait to be written. */
interface Waiting {
  readonly first: Denial[];
  /** How many came after those. */
  more: number;
}

/** As many as the database makes events of in a minute (migrations/fixtures/audit/record/denials.sql). */
const MAX_EVENTS = 10;
/** From the start of one round of writing to the next: a flood of denials takes one connection at most. */
const ROUND_MS = 250;
/** How often the counts of minutes that are over are written as events. */
const COUNT_MS = 60_000;

const RECORD = 'select app_private.record_denial($1, $2, $3, $4, $5)';
const RECORD_COUNTS = 'select app_private.record_denial_counts() as left';
/** Of the process itself, which acts for no user. */
const NO_CLAIMS: Claims = Object.freeze({
  ...{ userId: null, email: null, role: null, environments: null, expiresAt: null },
});

/**
 * Writes denied attempts to the trail after the answers: no request waits for it or fails by it. What can't be written is lost, and a
 * warning of the log says so.
 *
 * @param pool the API's: the database takes denials from its login only
 */
export function makeDenialRecorder(pool: pg.Pool, log: Logger) {
  const outage = makeOutage(log, {
    failing: 'denied attempts can’t be written to the trail',
    back: 'denied attempts are written to the trail again',
  });
  // By user, as the database counts them.
  let waiting = new Map<string, Waiting>();
  // At first those that an earlier process has left.
  let isCounting = true;

  async function write(settings: Settings, values: readonly unknown[]): Promise<void> {
    try {
      await queryAs(pool, settings, { name: 'record_denial', text: RECORD, values: [...values] });
      outage.back();
    } catch (error) {
      outage.failed(error);
    }
  }

  async function writeAll(): Promise<void> {
    const users = waiting.values();
    waiting = new Map();
    for (const { first, more } of users) {
      for (const { claims, request, operation, code, flagKey, environment } of first)
        await write(loginSettings(claims, request), [operation, code, flagKey, environment, 1]);
      const last = first.at(-1);
      if (more > 0 && last !== undefined)
        await write(loginSettings(last.claims, last.request), [null, last.code, null, null, more]);
    }
  }

  async function writeCounts(): Promise<void> {
    if (!isCounting) return;
    try {
      const settings = loginSettings(NO_CLAIMS, { requestId: '' });
      const { rows } = await queryAs<{ left: string }>(pool, settings, { text: RECORD_COUNTS });
      isCounting = rows[0]?.left !== '0';
    } catch (error) {
      // What serves requests logs an outage; the next try may work.
      log.debug({ err: error }, 'the counts of denied attempts can’t be written now');
    }
  }

  const round = coalesce(writeAll, ROUND_MS);
  const timer = setInterval(() => void writeCounts(), COUNT_MS).unref();

  return {
    /** Notes a denial, and returns at once. */
    record(denial: Denial): void {
      const user = denial.claims.userId ?? '';
      const waits = waiting.get(user) ?? { first: [], more: 0 };
      waiting.set(user, waits);
      if (waits.first.length < MAX_EVENTS) waits.first.push(denial);
      else waits.more += 1;
      isCounting = true;
      round.request();
    },
    /** Resolves once all that was noted is written, or can't be. */
    async close(): Promise<void> {
      clearInterval(timer);
      await round.close();
      await writeAll();
    },
  };
}
