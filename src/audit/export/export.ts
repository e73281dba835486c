import type pg from 'pg';

import { pause } from '../../lib/wait.ts';
import { scanLedger, type EventRow, type SeqRange } from './query.ts';
import type { ExportAuditEventsQuery } from './schemas.ts';

/** Runs `work` in a short transaction of its own, as the reader. */
export type Transaction = <T>(work: (client: pg.ClientBase) => Promise<T>) => Promise<T>;

/** What is asked for: which events, and which part of the trail. */
export type ExportQuery = Omit<ExportAuditEventsQuery, 'follow'>;

export interface Page {
  readonly rows: readonly EventRow[];
  /** The numbers that are still to be read. */
  readonly remaining: SeqRange;
}

export interface Follow {
  /** Raised when the reader waits no more. */
  readonly signal: AbortSignal;
  /** Whether the reader's time is over, asked before each look. */
  readonly isOver: () => boolean;
}

/** Rows of a page, which are in memory at the same time. */
const PAGE = 1_000;
/** How often a follower looks for new events. */
const POLL_MS = 500;

/** An export that the trail knows of. */
export interface Export {
  /** The id of its audit.exported event. */
  readonly id: string;
  /** The end of the trail when it began. */
  readonly last: number;
}

/**
 * Writes to the trail that an export begins, by the API's login. Call it before the first row is read.
 *
 * @param query as it was given
 * @param continued the id of the export that this goes on with: then nothing is written, if its event covers this
 * @throws the database's 42501 for who may not read the trail, ZF011 in strict mode when it can't be written
 */
export async function beginExport(
  transaction: Transaction,
  format: 'json' | 'ndjson' | 'csv',
  query: ExportQuery,
  follow: boolean,
  continued?: string,
): Promise<Export> {
  return transaction(async (client) => {
    const last = await readLastSeq(client);
    const filters = JSON.stringify(query);
    if (continued !== undefined && (await isContinued(client, continued, filters)))
      return { id: continued, last };
    const { rows } = await client.query<{ id: string }>(
      'select audit.record_export($1, $2, $3) as id',
      [format, filters, follow],
    );
    return { id: String(rows[0]?.id), last };
  });
}

async function isContinued(client: pg.ClientBase, id: string, filters: string): Promise<boolean> {
  const { rows } = await client.query<{ continues: boolean }>(
    'select app_private.continues_export($1, $2) as continues',
    [id, filters],
  );
  return rows[0]?.continues === true;
}

/**
 * Reads the events in the order of seq, page by page, each in a transaction of its own: no snapshot is held while the
 * pages' reader is slow. A page may be empty, and says what remains.
 *
 * @param last the end of the trail, where the reading ends (in descending order: begins) unless it follows
 * @param follow in ascending order only
 * @throws what the database throws; all pages before it are good
 */
export async function* readEvents(
  transaction: Transaction,
  query: ExportQuery,
  last: number,
  follow?: Follow,
): AsyncGenerator<Page, void, undefined> {
  const { order = 'asc' } = query;
  const maxScanned = maxScannedOf(query);
  let remaining = { after: query.after ?? 0, until: Math.min(query.until ?? last, last) };
  let left = query.limit ?? Number.POSITIVE_INFINITY;
  const goesOn = () =>
    follow === undefined ? !isEmpty(remaining) : !follow.signal.aborted && !follow.isOver();
  while (left > 0 && goesOn()) {
    if (follow !== undefined && isEmpty(remaining)) {
      yield { rows: [], remaining };
      await pause(POLL_MS, follow.signal);
      remaining = { ...remaining, until: await transaction(readLastSeq) };
      continue;
    }
    const range = nextRange(remaining, order, maxScanned);
    const limit = Math.min(left, PAGE);
    const rows = await transaction((client) =>
      scanLedger(client, query, { ...range, order, limit }),
    );
    left -= rows.length;
    const end = order === 'asc' ? range.until : range.after + 1;
    const seq = rows.length < limit ? end : Number(rows.at(-1)?.seq);
    remaining = rangeBehind(remaining, order, seq);
    yield { rows, remaining };
  }
}

/** What remains of a range, read in this order, behind the event `seq`. */
export function rangeBehind(range: SeqRange, order: 'asc' | 'desc', seq: number): SeqRange {
  return order === 'asc' ? { ...range, after: seq } : { ...range, until: seq - 1 };
}

/** The first numbers of a range, in this order. */
function nextRange({ after, until }: SeqRange, order: 'asc' | 'desc', count: number): SeqRange {
  return order === 'asc'
    ? { after, until: Math.min(until, after + count) }
    : { after: Math.max(after, until - count), until };
}

/** Whether a range has no number. */
export function isEmpty({ after, until }: SeqRange): boolean {
  return after >= until;
}

/** How many numbers a statement may pass: a flag has an index, who acted is read in each event (bench/sql/export.md). */
function maxScannedOf({ flag, actor }: ExportQuery): number {
  const numbers = flag === undefined ? 100_000 : 1_000_000;
  return actor === undefined ? numbers : numbers / 10;
}

/** The end of the trail: the number of its last event, 0 when it has none. */
export async function readLastSeq(client: pg.ClientBase): Promise<number> {
  const { rows } = await client.query<{ last: string }>('select audit.last_seq() as last');
  return Number(rows[0]?.last);
}
