import pg from 'pg';
import type { Logger } from '../lib/log.ts';
import { blockersOf } from '../postgres/blockers.ts';
import { readValue } from '../postgres/value.ts';
import { applyFlag, report, type AppliedBatch } from './batch.ts';
import type { StuckSchedules } from './stuck.ts';

/** A schedule that another process's batch has locked is applied by then. */
const MIN_OVERDUE_MS = 200;
/** When the applier hasn't taken all that is due for so long, as in a long backlog, a flag may be locked or not reached yet: both are applied. */
const MAX_OVERDUE_MS = 5_000;
/** The wait for locks, below deadlock_timeout. Several flags share it, so that one that stays locked doesn't delay the others. */
const MAX_WAIT_MS = 900;
/** The first wait for a flag. Each wait in vain doubles it: the queue for a row that is changed all the time may be long. */
const MIN_WAIT_MS = 100;
/** A flag that is locked for so long is reported with the sessions that lock it. */
const REPORT_MS = 5_000;
/** lock_not_available, deadlock_detected: the row is still locked. */
const LOCKED = new Set(['55P03', '40P01']);

interface OverdueFlag {
  readonly id: string;
  readonly flagKey: string;
  readonly environment: string;
}

interface Blockage {
  readonly flag: OverdueFlag;
  readonly since: number;
  reported: boolean;
  /** Waits in vain so far. */
  waits: number;
}

/**
 * Applies what the applier leaves because each of its batches finds the flag or the schedule locked: waits for the lock, one
 * flag at a time, on one connection.
 *
 * @param options.stuck schedules that the applier skips
 * @param options.drainedAt when the applier last took all that wasn't locked: what was due before is locked
 * @param options.onBatch is called for each flag that was applied
 */
export function makeLockedFlags(options: {
  readonly pool: pg.Pool;
  readonly log: Logger;
  readonly stuck: StuckSchedules;
  readonly drainedAt: () => number;
  readonly onBatch?: (batch: AppliedBatch) => void;
  readonly stopping: AbortSignal;
}) {
  const { pool, log, stuck, drainedAt, onBatch, stopping } = options;
  const blockages = new Map<string, Blockage>();

  function end(id: string): void {
    const blockage = blockages.get(id);
    blockages.delete(id);
    if (blockage?.reported !== true) return;
    const blockedForMs = Math.round(performance.now() - blockage.since);
    log.info({ flag: blockage.flag, blockedForMs }, 'a flag is no longer locked, nor overdue');
  }

  async function apply(flag: OverdueFlag, waitMs: number): Promise<void> {
    const since = performance.now();
    const blockage = blockages.get(flag.id) ?? { flag, since, reported: false, waits: 0 };
    blockages.set(flag.id, blockage);
    const client = await pool.connect();
    let broken = true;
    blockage.waits++;
    try {
      if (!blockage.reported && performance.now() - blockage.since >= REPORT_MS)
        await reportDuring(client, blockage, waitMs, () => blockages.get(flag.id) === blockage);
      const batch = await applyFlag(client, flag.id, waitMs, stuck.skipped());
      broken = false;
      stuck.add(batch.stuckIds);
      onBatch?.(batch);
      report(batch, log);
      end(flag.id);
    } catch (error) {
      broken = !(error instanceof pg.DatabaseError);
      if (broken || !isLocked(error)) throw error;
    } finally {
      client.release(broken);
    }
  }

  /** Reads, halfway through the wait that the client begins next, which sessions it waits for. */
  async function reportDuring(
    client: pg.ClientBase,
    blockage: Blockage,
    waitMs: number,
    stillLocked: () => boolean,
  ): Promise<void> {
    const pid = (await readValue<number>(client, 'select pg_backend_pid()')) ?? 0;
    setTimeout(() => {
      // The session may serve something else by now.
      if (!stillLocked()) return;
      blockersOf(pool, pid).then(
        (blockers) => {
          if (blockers.length === 0 || blockage.reported || !stillLocked()) return;
          blockage.reported = true;
          const overdueForMs = Math.round(performance.now() - blockage.since);
          log.warn(
            { flag: blockage.flag, overdueForMs, blockers },
            "a flag's schedules can't be applied, because other sessions hold its row or theirs locked",
          );
        },
        (error: unknown) => log.debug({ err: error }, 'the sessions that lock a flag are unknown'),
      );
    }, waitMs / 2).unref();
  }

  function waitsFor(flag: OverdueFlag): number {
    return blockages.get(flag.id)?.waits ?? 0;
  }

  return {
    /**
     * Waits for flags that are overdue, those first that were waited for least, until the time of one wait is over: what other
     * sessions hold for long makes no other flag wait.
     *
     * @returns whether flags are left that it had no time for
     * @throws the database's error, but for a lock that was not to be had
     */
    async apply(): Promise<boolean> {
      const sinceMs = performance.now() - drainedAt();
      const overdueMs = Math.min(MAX_OVERDUE_MS, Math.max(MIN_OVERDUE_MS, sinceMs));
      const flags = await overdueFlags(pool, overdueMs, stuck.skipped(), [...blockages.keys()]);
      const ids = new Set(flags.map(({ id }) => id));
      for (const id of blockages.keys()) if (!ids.has(id)) end(id);
      const share = Math.floor(MAX_WAIT_MS / Math.max(1, flags.length));
      const failures: pg.DatabaseError[] = [];
      const began = performance.now();
      let left = flags.length;
      for (const flag of flags.toSorted((a, b) => waitsFor(a) - waitsFor(b))) {
        if (stopping.aborted || performance.now() - began > MAX_WAIT_MS) break;
        left--;
        try {
          const waitMs = Math.max(share, MIN_WAIT_MS * 2 ** Math.min(waitsFor(flag), 10));
          await apply(flag, Math.min(MAX_WAIT_MS, waitMs));
        } catch (error) {
          // An error of the database's concerns this flag only.
          if (!(error instanceof pg.DatabaseError)) throw error;
          failures.push(error);
        }
      }
      if (failures[0] !== undefined) throw failures[0];
      return left > 0;
    },
  };
}

function isLocked(error: unknown): boolean {
  return error instanceof pg.DatabaseError && LOCKED.has(error.code ?? '');
}

/** @param waited flags that were waited for already, which don't count against the limit */
async function overdueFlags(
  pool: pg.Pool,
  overdueMs: number,
  skipped: readonly string[],
  waited: readonly string[],
): Promise<OverdueFlag[]> {
  const { rows } = await pool.query<OverdueFlag>(
    `select flag_id as "id", flag_key as "flagKey", environment
     from app_private.overdue_flags($1, $2, $3)`,
    [overdueMs, skipped, waited],
  );
  return rows;
}
