import type pg from 'pg';
import type { Month } from '../../audit/retention/retention.ts';
import { withLogin } from './connect.ts';
import { asUsageError, exitWith, FOUND_PROBLEMS } from './exit_with.ts';

export interface RetainArguments {
  /** An interval, as PostgreSQL reads it. */
  readonly keep: string;
  readonly dryRun?: boolean;
}

/** PostgreSQL's own word for what isn't an interval, too long a one, or one that audit.retain() refuses. */
const BAD_INTERVAL = ['22007', '22008', '22015', '22023'];

/**
 * `halyard audit retain`: purges the months of the trail that ended longer ago than --keep, each in a transaction of its own,
 * and prints a line for each. Exit status 1 when one that is old enough stays.
 */
export function run({ keep, dryRun = false }: RetainArguments): Promise<void> {
  return exitWith(() => withLogin('owner', (pool) => retain(pool, keep, dryRun)));
}

/** A dry run is one statement for all months; a real one has a transaction for each, so that what is done is done. */
async function retain(pool: pg.Pool, keep: string, dryRun: boolean): Promise<number> {
  let seen = 0;
  for (;;) {
    const { rows: months } = await pool
      .query<Month>(
        'select month::text, events, outcome, reason from audit.retain($1::interval, $2, $3)',
        [keep, dryRun ? null : 1, dryRun],
      )
      .catch(asUsageError(...BAD_INTERVAL));
    for (const month of months) process.stdout.write(`${line(month)}\n`);
    seen += months.length;
    if (months.some(({ outcome }) => outcome === 'kept' || outcome === 'busy'))
      return FOUND_PROBLEMS;
    if (dryRun || months.length === 0) break;
  }
  if (seen === 0) process.stdout.write('No month of the trail is old enough.\n');
  return 0;
}

function line({ month, events, outcome, reason }: Month): string {
  const what = outcome === 'purgeable' ? 'would be purged' : outcome;
  const why = reason === null ? '' : `: ${reason}`;
  const which = events === null ? '' : `${month?.slice(0, 7) ?? 'unknown'}  ${events} events  `;
  return `${which}${what}${why}`;
}
