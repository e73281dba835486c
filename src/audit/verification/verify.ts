import type pg from 'pg';
import { readValue } from '../../postgres/value.ts';

/** One thing that is wrong with the trail. */
export interface Problem {
  /** As audit.verify() and docs/audit.md name it. */
  readonly status: string;
  /** The number of the seal; null when it is about none. */
  readonly seal: number | null;
  /** The events that it is about, as far as they are known. */
  readonly seqs: readonly number[];
  readonly detail: string;
}

/** What was checked, and what was found. */
interface Total {
  seals: number;
  events: number;
  firstSeq: number | null;
  lastSeq: number | null;
  /** How many of the events were purged; their leaves are there. */
  purged: number;
  problems: Problem[];
}

export type Verification = Readonly<Total>;

export interface Range {
  readonly from: number;
  /** Null: to the end, what no seal covers included. */
  readonly to: number | null;
}

/** A row of audit.verify(): a seal, or a problem. */
interface SealRow {
  readonly seal_no: string | null;
  readonly first_seq: string | null;
  readonly last_seq: string | null;
  readonly status: string;
  readonly seqs: string[] | null;
  readonly detail: string | null;
}

/** Seals of one statement: of a second at most, so that no statement keeps a snapshot for long. */
const SEALS_AT_A_TIME = 50;
/** Each on a connection of its own: the work is the server's, and takes one of its processors each. */
const CHUNKS_AT_A_TIME = 3;

/**
 * Checks the trail against itself, some seals at a time, and some such chunks side by side. Each statement sees one state of
 * the database, and what is sealed never changes, so that a trail that is written meanwhile raises no false alarm.
 *
 * @param pool as an auditor without limits
 * @param onProgress gets the last seq that has been checked, and the last one that there is
 * @throws the database's errors
 */
export async function verifyTrail(
  pool: pg.Pool,
  range: Range,
  onProgress: (seq: number, lastSeq: number) => void = () => undefined,
): Promise<Verification> {
  const counts = { seals: 0, events: 0, purged: 0 };
  const total: Total = { ...counts, firstSeq: null, lastSeq: null, problems: [] };
  const last = await readValue(pool, 'select coalesce(max(last_seq), 0) from audit.seals');
  const end = Math.min(Number(last), range.to ?? Number.MAX_SAFE_INTEGER);
  const underWay: { readonly to: string | null; readonly rows: Promise<SealRow[]> }[] = [];
  let from: string | null = String(range.from);
  while (from !== null || underWay.length > 0) {
    if (from !== null) {
      const to = await endOfChunk(pool, from, range.to);
      const rows = verifyChunk(pool, from, to ?? range.to);
      // It is awaited in its turn; until then its failure must not end the process.
      rows.catch(() => undefined);
      underWay.push({ to, rows });
      from = to === null ? null : String(BigInt(to) + 1n);
    }
    if (from !== null && underWay.length < CHUNKS_AT_A_TIME) continue;
    const chunk = underWay.shift();
    if (chunk === undefined) break;
    addRows(total, await chunk.rows);
    if (chunk.to !== null) onProgress(Number(chunk.to), end);
  }
  return total;
}

/** The last seq of the chunk that begins at `from`; null when it is the last chunk. */
async function endOfChunk(pool: pg.Pool, from: string, to: number | null): Promise<string | null> {
  const { rows } = await pool.query<{ last_seq: string }>(
    `select s.last_seq from audit.seals s
     where s.last_seq >= $1 and ($2::bigint is null or s.first_seq <= $2)
     order by s.last_seq
     limit $3`,
    [from, to, SEALS_AT_A_TIME + 1],
  );
  return rows.length <= SEALS_AT_A_TIME ? null : (rows.at(-2)?.last_seq ?? null);
}

/** A purge takes tables away, which a statement that began before it may see already: so missing events are checked again. */
async function verifyChunk(
  pool: pg.Pool,
  from: string,
  to: string | number | null,
): Promise<SealRow[]> {
  const verify = () =>
    pool.query<SealRow>('select * from audit.verify($1::bigint, $2::bigint)', [from, to]);
  const { rows } = await verify();
  const isMissing = rows.some(({ status }) => status === 'event_missing');
  return isMissing ? (await verify()).rows : rows;
}

/** Adds what one chunk came to. */
function addRows(total: Total, rows: readonly SealRow[]): void {
  const seen = new Set<string>();
  for (const { seal_no, first_seq, last_seq, status, seqs, detail } of rows) {
    const first = Number(first_seq);
    const last = Number(last_seq);
    // Seal 0 only begins the chain.
    if (seal_no !== null && seal_no !== '0' && !seen.has(seal_no)) {
      seen.add(seal_no);
      total.seals += 1;
      total.events += Math.max(0, last - first + 1);
      total.firstSeq = Math.min(total.firstSeq ?? first, first);
      total.lastSeq = Math.max(total.lastSeq ?? last, last);
    }
    if (status === 'purged') total.purged += seqs?.length ?? 0;
    else if (status !== 'ok')
      total.problems.push({
        status,
        seal: seal_no === null ? null : Number(seal_no),
        seqs: (seqs ?? []).map(Number),
        detail: detail ?? '',
      });
  }
}
