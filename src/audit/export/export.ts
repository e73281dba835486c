import pg from 'pg';

import { pause } from '../../lib/sleep.ts';
import { isIndexed, pick, seek, walk } from './query.ts';
import type { EventFilters, EventRow } from './query.ts';

/** Runs `work` in a short transaction of its own, as whoever reads. */
export type Transaction = <T>(work: (client: pg.ClientBase) => Promise<T>) => Promise<T>;

/** What is asked for: which events, and which part of the trail. */
export interface ExportQuery extends EventFilters {
  /** Only behind this seq. */
  readonly after?: number | undefined;
  /** Only up to this seq. */
  readonly until?: number | undefined;
  readonly limit?: number | undefined;
}

export interface Page {
  readonly rows: readonly EventRow[];
  /** Everything up to this seq has been read. */
  readonly position: number;
}

export interface Follow {
  /** Raised when nobody waits any more. */
  readonly signal: AbortSignal;
  /** Whether the reader's time is over, asked before each look. */
  readonly isOver: () => boolean;
}

/** Rows of a page, which are in memory at the same time. */
const PAGE = 1_000;
/** As many numbers fit into 40 kB. */
const FEW = 5_000;
/** A search by index that takes longer isn't worth it: a walk takes many steps, each of them short. */
const SEEK_MS = 2_000;
/** How often a follower looks for new events. */
const POLL_MS = 500;

/** A first look, of some 5 ms: how many numbers, and how many of them must be wanted to walk on. */
const PROBE = { window: 500, dense: 10 } as const;
/** Numbers that a step looks at: as many as take about 50 ms. */
const WINDOW = { first: 2_000, least: 1_000, most: 200_000 } as const;
const STEP_MS = { quick: 25, slow: 100 } as const;

/**
 * Writes to the trail that an export begins. Call it before the first row is read.
 *
 * @param query as it was given
 * @returns the end of the trail, before that
 * @throws the database's 42501 for who may not read the trail, ZF011 in strict mode when it can't be written
 */
export async function beginExport(
  transaction: Transaction,
  format: 'json' | 'ndjson' | 'csv',
  query: ExportQuery,
  follow: boolean,
): Promise<number> {
  return transaction(async (client) => {
    const { rows } = await client.query<{ last: string }>('select audit.last_seq() as last');
    await client.query('select audit.record_export($1, $2, $3)', [
      format,
      JSON.stringify(query),
      follow,
    ]);
    return Number(rows[0]?.last);
  });
}

/**
 * Reads the events in the order of seq, page by page, each in a transaction of its own: no snapshot is held while the
 * pages' reader is slow. A page may be empty; it tells how far the reading has come.
 *
 * @param last the end of the trail, where the reading ends unless it follows
 * @throws what the database throws; all pages before it are good
 */
export async function* readEvents(
  transaction: Transaction,
  query: ExportQuery,
  last: number,
  follow?: Follow,
): AsyncGenerator<Page, void, undefined> {
  const end = Math.min(query.until ?? Number.POSITIVE_INFINITY, last);
  let position = query.after ?? 0;
  let left = query.limit ?? Number.POSITIVE_INFINITY;

  /** Looks at the next numbers; at their end the position may be behind the last row. */
  async function step(window: number, until: number | null) {
    const limit = Math.min(left, PAGE);
    const found = await transaction((client) =>
      walk(client, query, { after: position, window, until, limit }),
    );
    const full = found.rows.length === limit;
    position = full ? Number(found.rows.at(-1)?.seq) : found.upto;
    left -= found.rows.length;
    return { page: { rows: found.rows, position }, full, end: found.last };
  }

  if (position < end && isIndexed(query)) {
    // Where there are many, a walk has them before an index can tell that they are not few.
    const { page, full } = await step(PROBE.window, end);
    yield page;
    const dense = full || page.rows.length >= PROBE.dense;
    const few = dense || position >= end ? null : await seekFew(transaction, query);
    if (few !== null) {
      const seqs = few.filter((seq) => seq > position && seq <= end).slice(0, left);
      for (let i = 0; i < seqs.length; i += PAGE) {
        const some = seqs.slice(i, i + PAGE);
        const rows = await transaction((client) => pick(client, some));
        left -= some.length;
        position = some.at(-1) ?? position;
        yield { rows, position };
      }
      if (left > 0) {
        position = end;
        yield { rows: [], position };
      }
    }
  }

  let window: number = WINDOW.first;
  while (left > 0 && (follow === undefined ? position < end : isWanted(follow))) {
    const begun = performance.now();
    const taken = await step(window, follow === undefined ? end : null);
    window = nextWindow(window, performance.now() - begun);
    yield taken.page;
    if (follow !== undefined && left > 0 && position >= taken.end)
      await pause(POLL_MS, follow.signal);
  }
}

function isWanted({ signal, isOver }: Follow): boolean {
  return !signal.aborted && !isOver();
}

function nextWindow(window: number, ms: number): number {
  if (ms < STEP_MS.quick) return Math.min(window * 2, WINDOW.most);
  if (ms > STEP_MS.slow) return Math.max(Math.floor(window / 2), WINDOW.least);
  return window;
}

/** The numbers of all events that are wanted, when they are few; otherwise null. */
async function seekFew(
  transaction: Transaction,
  query: ExportQuery,
): Promise<readonly number[] | null> {
  try {
    return await transaction(async (client) => {
      await client.query(`select set_config('statement_timeout', $1, true)`, [String(SEEK_MS)]);
      return seek(client, query, FEW);
    });
  } catch (error) {
    if (error instanceof pg.DatabaseError && error.code === '57014') return null;
    throw error;
  }
}
