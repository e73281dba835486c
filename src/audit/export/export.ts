import type pg from 'pg';

import { sleep } from '../../lib/wait.ts';
import { readValue } from '../../postgres/value.ts';
import { readPiece, scanLedger, type LongColumn, type Scanned, type SeqRange } from './query.ts';
import type { ExportAuditEventsQuery } from './schemas.ts';

/** Runs `work` in a short transaction of its own, as the reader. */
export type Transaction = <T>(work: (client: pg.ClientBase) => Promise<T>) => Promise<T>;

/** Which events, and which part of the trail. */
export type ExportQuery = Omit<ExportAuditEventsQuery, 'follow'>;

/** Some events in order; there may be none. */
export type Page = Omit<Scanned, 'found'>;

export interface Follow {
  /** Raised when the reader waits no more. */
  readonly signal: AbortSignal;
  /** Whether the reader's time is over; asked before each read. */
  readonly isOver: () => boolean;
}

/** Rows of a page, which are in memory at the same time. */
const PAGE = 1_000;
/** Bytes of a page's payloads. An event's text has them about twice, as metadata and in the message: 1 MiB. */
export const PAGE_BYTES = 2 ** 19;
/** Characters of a long text that are read at a time. */
const PIECE = 2 ** 19;
/** How often a follower looks for new events. */
const POLL_MS = 500;

/**
 * Writes to the trail that an export begins, by the API's login. Call it before the first row is read.
 *
 * @param query as it was given
 * @param continued the id of the export that this continues: then nothing is written, if its event covers this
 * @returns the id of its audit.exported event, and the end of the trail when it began
 * @throws the database's ZF014 for an unknown environment, 42501 for who may not read the trail, ZF011 in strict mode when it can't be written
 */
export async function beginExport(
  transaction: Transaction,
  format: 'json' | 'ndjson' | 'csv',
  query: ExportQuery,
  follow: boolean,
  continued?: string,
): Promise<{ id: string; last: number }> {
  return transaction(async (client) => {
    await requireEnvironmentInTrail(client, query);
    const last = await readLastSeq(client);
    const filters = JSON.stringify(query);
    const read = <T>(sql: string, ...values: unknown[]) => readValue<T>(client, sql, values);
    const continues = 'select app_private.continues_export($1, $2)';
    if (continued !== undefined && (await read(continues, continued, filters)) === true)
      return { id: continued, last };
    const id = await read('select audit.record_export($1, $2, $3)', format, filters, follow);
    return { id: String(id), last };
  });
}

/**
 * Whether the trail has the environment that an export asks for; one that was deleted since counts.
 *
 * @throws the database's ZF014, which names those that the reader may see
 */
export async function requireEnvironmentInTrail(
  client: pg.ClientBase,
  { environment }: ExportQuery,
): Promise<void> {
  if (environment !== undefined)
    await client.query('select app_private.require_environment($1, true)', [environment]);
}

/**
 * Reads the events in the order of seq, page by page, each in a transaction of its own: no snapshot is held while the client is slow.
 * It keeps nothing of a page that it has returned.
 *
 * @param last the end of the trail, where the reading ends (in descending order: begins) unless it follows
 * @param follow in ascending order only
 */
export function makeEventReader(
  transaction: Transaction,
  query: ExportQuery,
  last: number,
  follow?: Follow,
) {
  const { order = 'asc' } = query;
  const maxScanned = maxScannedOf(query);
  let remaining = { after: query.after ?? 0, until: Math.min(query.until ?? last, last) };
  let left = query.limit ?? Number.POSITIVE_INFINITY;
  let pageRows = PAGE;
  /** Whether the follower knows that it has all there is. */
  let isIdle = false;
  const isOver = () => left <= 0 || follow?.signal.aborted === true || follow?.isOver() === true;

  async function readPage(): Promise<Page> {
    const range = nextRange(remaining, order, maxScanned);
    const limit = Math.min(left, pageRows);
    const { found, ...scanned } = await transaction((client) =>
      scanLedger(client, query, { ...range, order, limit, bytes: PAGE_BYTES }),
    );
    const { rows } = scanned;
    left -= rows.length;
    // What was found beyond the page was read for nothing.
    const fits = rows.length < found ? Math.ceil(1.1 * rows.length) : 2 * pageRows;
    pageRows = Math.min(PAGE, fits);
    const end = order === 'asc' ? range.until : range.after + 1;
    const isPart = rows.length === limit || rows.length < found;
    remaining = rangeBehind(remaining, order, isPart ? Number(rows.at(-1)?.seq) : end);
    return scanned;
  }

  /** A text of an event of a large page, in pieces. */
  async function* pieces(seq: string, column: LongColumn): AsyncGenerator<string, void, undefined> {
    for (let from = 1; ; from += PIECE) {
      const part = { from, length: PIECE };
      const piece = await transaction((client) => readPiece(client, seq, column, part));
      if (piece === '') return;
      yield piece;
    }
  }

  return {
    /** The numbers that are still to be read. */
    get remaining() {
      return remaining;
    },
    /**
     * The next page; undefined at the end.
     *
     * @throws what the database throws; all pages before it are good
     */
    async next(): Promise<Page | undefined> {
      while (!isOver()) {
        if (!isEmpty(remaining)) return readPage();
        if (follow === undefined) return undefined;
        isIdle = !isIdle;
        if (isIdle) return { rows: [], bytes: 0, isLarge: false };
        await sleep(POLL_MS, follow.signal);
        remaining = { ...remaining, until: await transaction(readLastSeq) };
      }
      return undefined;
    },
    pieces,
  };
}

export type EventReader = ReturnType<typeof makeEventReader>;

/** What remains of a range, read in this order, after the event `seq`. */
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

/** How many numbers a statement may scan: a flag has an index, the actor is read from each event (bench/sql/export.md). */
function maxScannedOf({ flag, actor }: ExportQuery): number {
  const numbers = flag === undefined ? 100_000 : 1_000_000;
  return actor === undefined ? numbers : numbers / 10;
}

/** The end of the trail: the number of its last event, 0 when it has none. */
export async function readLastSeq(client: pg.ClientBase): Promise<number> {
  return Number(await readValue(client, 'select audit.last_seq()'));
}
