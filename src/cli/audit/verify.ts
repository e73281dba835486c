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
import { readValue } from '../../postgres/value.ts';
import { withLogin } from './connect.ts';
import { linesOf } from './input.ts';
import { exitWith, FOUND_PROBLEMS, NotCheckedError, UsageError } from './exit_with.ts';
import { withProgress } from './progress.ts';
import { summarize, toJson } from './verify_report.ts';

export interface VerifyArguments {
  readonly from?: number;
  readonly to?: number;
  /** A file, `-`, or the name of a sink that can be read. */
  readonly anchors?: string;
  /** False: rows and triggers aren't checked. Nor are they when a range is given. */
  readonly rows?: boolean;
  readonly json?: boolean;
}

/**
 * `halyard audit verify`: checks the trail against its seals, the rows against the trail, and the seals against a copy outside.
 * Exit status 0 when all is well, 1 when not, 2 for bad arguments, 3 when it could not be checked.
 */
export function run({ from = 1, to, anchors, rows = true, json }: VerifyArguments): Promise<void> {
  return exitWith(async () => {
    if (to !== undefined && to < from)
      throw new UsageError('Give --to a number that is not below --from.');
    const range = { from, to: to ?? null };
    return withLogin('auditor', async (pool, config) => {
      // Null when it can't be read now.
      const auditMode = await readValue<string | null>(pool, 'select app_private.audit_mode()');
      const verification = { ...(await verify(pool, range)), auditMode: auditMode ?? null };
      const report = anchors === undefined ? null : await compare(pool, anchors, config);
      const state = rows && isWhole(range) ? await compareState(pool) : null;
      const parts = [verification.problems, report?.problems ?? [], state ?? []];
      process.stdout.write(
        json ? `${toJson(verification, report, state)}\n` : summarize(verification, report, state),
      );
      return parts.flat().length > 0 ? FOUND_PROBLEMS : 0;
    });
  });
}

async function verify(pool: pg.Pool, range: Range): Promise<Verification> {
  const verification = await withProgress((show) =>
    verifyTrail(pool, range, (seq, last) => show(`Verified up to event ${seq} of ${last}`)),
  );
  if (!isWhole(range) && verification.seals === 0 && verification.problems.length === 0)
    throw new NotCheckedError('There are no sealed events of these numbers.');
  return verification;
}

const isWhole = ({ from, to }: Range) => from === 1 && to === null;

function compareState(pool: pg.Pool): Promise<StateProblem[]> {
  return withProgress((show) =>
    verifyState(pool, (table, rows) => show(`Compared ${rows} rows of ${table} with the trail`)),
  );
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
