import type pg from 'pg';

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

/** What was looked at, and what was found. */
export interface Verification {
  readonly seals: number;
  readonly events: number;
  readonly firstSeq: number | null;
  readonly lastSeq: number | null;
  /** How many of the events were purged; their leaves are there. */
  readonly purged: number;
  readonly problems: readonly Problem[];
}

export interface Range {
  readonly from: number;
  /** Null: to the end, what no seal covers included. */
  readonly to: number | null;
}

interface Row {
  readonly seal_no: string | null;
  readonly first_seq: string | null;
  readonly last_seq: string | null;
  readonly status: string;
  readonly seqs: string[] | null;
  readonly detail: string | null;
}

/** How many seals are looked at in one statement: of a second at most, so that no statement keeps a snapshot for long. */
const SEALS_AT_A_TIME = 50;
/** Each on a connection of its own: the work is the server's, and takes one of its processors each. */
const CHUNKS_AT_A_TIME = 3;

/**
 * Checks the trail against itself, some seals at a time, and some such chunks side by side. Each statement sees one state of the database, and what is sealed never
 * changes, so that a trail that is written meanwhile raises no false alarm.
 *
 * @param pool as an auditor without limits
 * @param onProgress is told of the last seq that has been looked at, and of the last one that there is
 * @throws the database's errors
 */
export async function verifyTrail(
  pool: pg.Pool,
  range: Range,
  onProgress: (seq: number, lastSeq: number) => void = () => undefined,
): Promise<Verification> {
  const tally = makeTally();
  const { rows: ends } = await pool.query<{ last: string }>(
    'select coalesce(max(last_seq), 0) as last from audit.seals',
  );
  const end = Math.min(Number(ends[0]?.last ?? 0), range.to ?? Number.MAX_SAFE_INTEGER);
  const underWay: { readonly last: string | null; readonly rows: Promise<Row[]> }[] = [];
  let from: string | null = String(range.from);
  while (from !== null || underWay.length > 0) {
    if (from !== null) {
      const last = await endOfChunk(pool, from, range.to);
      const rows = verifyChunk(pool, from, last ?? range.to);
      // It is awaited in its turn; until then its failure must not end the process.
      rows.catch(() => undefined);
      underWay.push({ last, rows });
      from = last === null ? null : String(BigInt(last) + 1n);
    }
    if (from !== null && underWay.length < CHUNKS_AT_A_TIME) continue;
    const chunk = underWay.shift();
    if (chunk === undefined) break;
    tally.add(await chunk.rows);
    if (chunk.last !== null) onProgress(Number(chunk.last), end);
  }
  return tally.result();
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

/** A purge takes tables away, which a statement that began before it may see already: so missing events get a second look. */
async function verifyChunk(
  pool: pg.Pool,
  from: string,
  to: string | number | null,
): Promise<Row[]> {
  const look = () =>
    pool.query<Row>('select * from audit.verify($1::bigint, $2::bigint)', [from, to]);
  const { rows } = await look();
  const missing = rows.some(({ status }) => status === 'event_missing');
  return missing ? (await look()).rows : rows;
}

function makeTally() {
  const problems: Problem[] = [];
  let seals = 0;
  let events = 0;
  let purged = 0;
  let firstSeq: number | null = null;
  let lastSeq: number | null = null;

  function add(rows: readonly Row[]): void {
    const seen = new Set<string>();
    for (const row of rows) {
      const first = Number(row.first_seq);
      const last = Number(row.last_seq);
      // Seal 0 only begins the chain.
      if (row.seal_no !== null && row.seal_no !== '0' && !seen.has(row.seal_no)) {
        seen.add(row.seal_no);
        seals += 1;
        events += Math.max(0, last - first + 1);
        firstSeq = Math.min(firstSeq ?? first, first);
        lastSeq = Math.max(lastSeq ?? last, last);
      }
      if (row.status === 'purged') purged += row.seqs?.length ?? 0;
      else if (row.status !== 'ok') problems.push(problemOf(row));
    }
  }

  return {
    add,
    result: (): Verification => ({ seals, events, firstSeq, lastSeq, purged, problems }),
  };
}

function problemOf({ status, seal_no, seqs, detail }: Row): Problem {
  return {
    status,
    seal: seal_no === null ? null : Number(seal_no),
    seqs: (seqs ?? []).map(Number),
    detail: detail ?? '',
  };
}
