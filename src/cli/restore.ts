import { setTimeout as delay } from 'node:timers/promises';
import type pg from 'pg';
import { isErrno } from '../lib/errno.ts';
import { withLogin } from './audit/connect.ts';
import { asUsageError, exitWith, FOUND_PROBLEMS } from './audit/exit_with.ts';

export interface AcceptArguments {
  readonly reason: string;
  readonly overdue?: 'apply' | 'skip';
  readonly asCopy?: boolean;
  readonly dryRun?: boolean;
}

/** What app_private.accept_restore() says. */
interface Report {
  readonly trail?: string;
  readonly incarnation?: string;
  readonly overdue: 'apply' | 'skip';
  readonly asCopy: boolean;
  readonly lastSeal: number;
  readonly lastSeq: number;
  readonly skipped: number;
  readonly held: number;
  readonly queued: number;
  readonly destinations: readonly Ahead[];
  readonly refused: readonly string[];
}

/** A destination's newest seal, or an event that arrived without one, which the database lacks. */
interface Ahead {
  readonly destination: string;
  readonly seal?: number;
  /** The event that arrived without its seal. */
  readonly event?: string | null;
  readonly lastSeq: number;
  readonly sealedAt: string;
  /** The first of the numbers that it gets nothing of; absent when it gets all. */
  readonly notSentFrom?: number;
}

const NOTHING_REFUSED =
  "Warning: this copy knows of no place that its original has delivered to, so none is refused. Set other destinations than the original's (AUDIT_SINK and its variables).";

/** invalid_parameter_value. */
const REFUSED = '22023';
/** lock_not_available and deadlock_detected. */
const LOCKED = ['55P03', '40P01'];
/** Each try waits a second for the locks, and changes meanwhile wait with it. */
const MAX_TRIES = 20;
const PAUSE_MS = 500;

/**
 * `halyard restore accept`: accepts, as the owner, that what the trail had after this state of it is lost. Exit status 0, 2 for bad
 * arguments, 1 when it can't be done; then nothing is changed.
 */
export function accept(options: AcceptArguments): Promise<void> {
  const { reason, overdue = null, asCopy = false, dryRun = false } = options;
  const query = 'select app_private.accept_restore($1, $2, $3, $4) as report';
  return exitWith(
    () =>
      withLogin(
        'owner',
        async (pool) => {
          const { rows } = await patiently(() =>
            pool.query<{ report: Report }>(query, [reason, overdue, asCopy, dryRun]),
          ).catch(asUsageError(REFUSED));
          if (rows[0] !== undefined) process.stdout.write(describe(rows[0].report));
          return 0;
        },
        'restore',
      ),
    '',
    1,
  );
}

/** Tries again while another transaction keeps the locks. @throws the last error */
async function patiently<T>(work: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await work();
    } catch (error) {
      if (!(isErrno(error) && LOCKED.includes(error.code)) || tries === MAX_TRIES) throw error;
      if (tries === 1)
        process.stderr.write('Another transaction keeps a lock on the trail; trying again.\n');
      await delay(PAUSE_MS);
    }
  }
}

/** What was done, or with a dry run would be, a line for each thing that there is to say. */
export function describe(report: Report): string {
  const { trail, incarnation, asCopy, overdue, lastSeal, lastSeq, destinations } = report;
  return `${[
    incarnation === undefined
      ? `Nothing is changed. Another incarnation would begin behind seal ${lastSeal}, event ${lastSeq}:`
      : `Incarnation ${incarnation} begins behind seal ${lastSeal}, event ${lastSeq}.`,
    ...(asCopy && trail !== undefined ? [`The copy's trail is ${trail}.`] : []),
    ...destinations.map((ahead) => `Lost: ${has(ahead)}.`),
    ...destinations.flatMap((ahead) => notSent(ahead, lastSeq)),
    overdue === 'skip'
      ? `${asCopy ? 'Pending' : 'Overdue'} schedules that are cancelled: ${report.skipped}.`
      : `Overdue schedules that the workers apply: ${report.held}.`,
    ...(report.queued > 0 ? [`Events that get another id: ${report.queued}.`] : []),
    ...report.refused.map((destination) => `Nothing is forwarded to ${destination} any more.`),
    ...(asCopy && report.refused.length === 0 ? [NOTHING_REFUSED] : []),
  ].join('\n')}\n`;
}

function has({ destination, seal, event, lastSeq, sealedAt }: Ahead): string {
  const unsealed = (event ?? null) !== null;
  const what = unsealed
    ? `events without their seal, up to ${lastSeq}`
    : `seals up to ${seal}, event ${lastSeq}`;
  return `${destination} has ${what}, of ${sealedAt}`;
}

function notSent({ destination, notSentFrom }: Ahead, lastSeq: number): string[] {
  if (notSentFrom === undefined) return [];
  return [
    `Events ${notSentFrom} to ${lastSeq} aren't sent to ${destination}: it has these numbers already, with other events where a worker numbered before ${destination} was asked.`,
  ];
}

/**
 * `halyard restore status`: says whether a destination is ahead of the database. Exit status 0 when none is known to be, 1 when one
 * is, 3 when it could not be found out.
 */
export function status(): Promise<void> {
  return exitWith(() =>
    withLogin(
      'owner',
      async (pool) => {
        const found = await readStatus(pool);
        process.stdout.write(found.text);
        return found.ahead ? FOUND_PROBLEMS : 0;
      },
      'restore',
    ),
  );
}

async function readStatus(pool: pg.Pool): Promise<{ ahead: boolean; text: string }> {
  const { rows: ends } = await pool.query<Record<'trail' | 'id' | 'seal' | 'seq' | 'held', string>>(
    `select i.trail, i.id, (select max(s.seal_no) from audit.seals s) as seal,
       (select coalesce(max(l.seq), 0) from audit.ledger l) as seq,
       (select count(*) from app_private.overdue_schedules()) as held
     from audit.incarnations i order by i.incarnation_no desc limit 1`,
  );
  const { rows } = await pool.query<Ahead & { since: string }>(
    `select destination, seal_no as seal, event_id as event, last_seq as "lastSeq", app_private.iso(sealed_at) as "sealedAt",
       app_private.iso(found_at) as since
     from app_private.open_divergences() order by id`,
  );
  const [end] = ends;
  if (end === undefined) throw new Error('audit.incarnations is empty.');
  const lines = [
    `Trail ${end.trail}, incarnation ${end.id}, up to seal ${end.seal}, event ${end.seq}.`,
    ...(rows.length === 0
      ? ['No destination is known to be ahead.']
      : rows.map((ahead) => `Ahead since ${ahead.since}: ${has(ahead)}.`)),
    `Schedules that --overdue decides about: ${end.held}.`,
  ];
  return { ahead: rows.length > 0, text: `${lines.join('\n')}\n` };
}
