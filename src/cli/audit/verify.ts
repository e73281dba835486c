import type pg from 'pg';
import {
  checkAnchors,
  NoAnchorsError,
  type AnchorReport,
} from '../../audit/verification/anchors.ts';
import { SINKS } from '../../audit/delivery/sinks/index.ts';
import { verifyState, type StateProblem } from '../../audit/verification/state.ts';
import { verifyTrail, type Range, type Verification } from '../../audit/verification/verify.ts';
import type { Config } from '../../config/config.ts';
import { withLogin } from './connect.ts';
import { linesOf } from './input.ts';
import { exitWith, FOUND_PROBLEMS, NotCheckedError, UsageError } from './exit_codes.ts';
import { makeProgress } from './progress.ts';
import { summarize, toJson } from './verify_report.ts';

export interface VerifyArguments {
  readonly from?: number;
  readonly to?: number;
  /** A file, `-`, or the name of a sink that can be read. */
  readonly anchors?: string;
  /** False: rows and triggers aren't looked at. Nor are they when a range was asked for. */
  readonly rows?: boolean;
  readonly json?: boolean;
}

/**
 * `halyard audit verify`: is the trail what it was when it was sealed, are the rows what it says, and do the
 * heads outside agree? Exit status 0 when
 * all is well, 1 when not, 2 for bad arguments, 3 when it could not be checked.
 */
export function run({ from = 1, to, anchors, rows = true, json }: VerifyArguments): Promise<void> {
  return exitWith(async () => {
    if (to !== undefined && to < from)
      throw new UsageError('Give --to a number that is not below --from.');
    const range = { from, to: to ?? null };
    return withLogin('auditor', async (pool, config) => {
      const verification = { ...(await verify(pool, range)), auditMode: await auditMode(pool) };
      const report = anchors === undefined ? null : await compare(pool, anchors, config);
      const isWhole = range.from === 1 && range.to === null;
      const state = rows && isWhole ? await compareState(pool) : null;
      const parts = [verification.problems, report?.problems ?? [], state ?? []];
      process.stdout.write(
        json ? `${toJson(verification, report, state)}\n` : summarize(verification, report, state),
      );
      return parts.flat().length > 0 ? FOUND_PROBLEMS : 0;
    });
  });
}

async function verify(pool: pg.Pool, range: Range): Promise<Verification> {
  const progress = makeProgress(process.stderr);
  try {
    const verification = await verifyTrail(pool, range, (seq, last) =>
      progress.tell(`Verified up to event ${seq} of ${last}`),
    );
    const asked = range.from > 1 || range.to !== null;
    if (asked && verification.seals === 0 && verification.problems.length === 0)
      throw new NotCheckedError('There are no sealed events of these numbers.');
    return verification;
  } finally {
    progress.end();
  }
}

async function compareState(pool: pg.Pool): Promise<StateProblem[]> {
  const progress = makeProgress(process.stderr);
  try {
    return await verifyState(pool, (table, rows) =>
      progress.tell(`Compared ${rows} rows of ${table} with the trail`),
    );
  } finally {
    progress.end();
  }
}

/** Null when it can't be known now. */
async function auditMode(pool: pg.Pool): Promise<string | null> {
  const { rows } = await pool.query<{ mode: string | null }>(
    'select app_private.audit_mode() as mode',
  );
  return rows[0]?.mode ?? null;
}

async function compare(pool: pg.Pool, anchors: string, config: Config): Promise<AnchorReport> {
  try {
    const kind = SINKS.find(({ name }) => name === anchors);
    if (!kind?.readAnchors) return await checkAnchors(pool, linesOf(anchors));
    const { audit, dataDir } = config;
    const messages = kind.readAnchors({ ...audit, dataDir }, new AbortController().signal);
    return await checkAnchors(pool, readable(messages, kind.title), { sealsOnly: true });
  } catch (error) {
    if (error instanceof NoAnchorsError) throw new NotCheckedError(error.message, { cause: error });
    throw error;
  }
}

/** What the service or its client says, such as that it has no region, is for the person who set them up. */
async function* readable(messages: AsyncIterable<string>, title: string): AsyncGenerator<string> {
  try {
    yield* messages;
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new NotCheckedError(`${title} can't be read (${reason}).`, { cause: error });
  }
}
