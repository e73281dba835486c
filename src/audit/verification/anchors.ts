import type pg from 'pg';
import { messagesOf, readMessage, readPlaceholder, type Anchor, type CopiedEvent } from './copy.ts';
import { formatRanges, gapsBetween, makeCoverage, numbersOf, type Coverage } from './coverage.ts';
import { headOf } from '../seals/seal.ts';
import { readLosses, type Loss } from './losses.ts';
import type { Problem } from './verify.ts';

/** What the copy outside said about the trail. */
export interface AnchorReport {
  /** Different seals that the copy has anchors of, and how many of them the database's seals agree with. */
  readonly anchored: number;
  readonly matching: number;
  /** Events of the copy whose text was compared with the ledger. */
  readonly copies: number;
  /** Which events the copy has, between its first and its last; null when it has none, or when only seals were asked for. */
  readonly coverage: Coverage | null;
  /** Whether the source gave seals only, so that nothing is said of events. */
  readonly sealsOnly: boolean;
  /** The last seal with an anchor that agrees; null when there is none. */
  readonly last: { readonly seal: number; readonly seq: number } | null;
  /** Seals behind that one: nothing outside vouches for them yet. */
  readonly behind: number;
  /** Seals before it without an anchor of their own: the chain vouches for them. */
  readonly unanchored: number;
  /** What the copy has of histories whose loss was accepted. No problems. */
  readonly lost: readonly Loss[];
  readonly problems: readonly Problem[];
}

/** Thrown when the copy holds no audit.sealed record at all, so that nothing can be told by it. */
export class NoAnchorsError extends Error {
  override readonly name = 'NoAnchorsError';

  constructor() {
    super('There is no audit.sealed record in the anchors: nothing can be checked against them.');
  }
}

const BATCH = 1_000;
/** Numbers that one problem lists; its detail has the count. */
const MAX_LISTED = 1_000;

/**
 * Checks the database's seals, and the leaves of the ledger, against a copy outside. The copy is read line by line and in memory
 * there is only what differs.
 *
 * @param pool as an auditor without limits
 * @param lines of the copy, in any order, some of them perhaps twice; lines that are something else are passed over
 * @param options.sealsOnly the source gives every seal that it has and no event: a seal that is missing between is a gap then.
 *   Elsewhere not every seal needs an anchor, and gaps are those of events
 * @throws NoAnchorsError; the errors of the database and of reading the lines
 */
export async function checkAnchors(
  pool: pg.Pool,
  lines: AsyncIterable<string> | Iterable<string>,
  { sealsOnly = false }: { readonly sealsOnly?: boolean } = {},
): Promise<AnchorReport> {
  const comparison = await makeComparison(pool, sealsOnly);
  const anchors: Anchor[] = [];
  const events: CopiedEvent[] = [];
  for await (const line of lines) {
    for (const message of messagesOf(line)) {
      const found = readMessage(message);
      if (found === null) comparison.placeholder(readPlaceholder(message));
      else if ('head' in found) anchors.push(found);
      else events.push(found);
    }
    if (anchors.length >= BATCH) await comparison.seals(anchors.splice(0));
    if (events.length >= BATCH) await comparison.events(events.splice(0));
  }
  await comparison.seals(anchors);
  await comparison.events(events);
  return comparison.report();
}

const BROKEN = "The anchor's head isn't that of what it says: the copy was changed.";
const MISSING = 'There is an anchor of it, but no such seal in the database.';
const PAST =
  'There is an anchor of it in a history that was given up, but newer than what was accepted as lost: that history goes on somewhere.';
const CUT = 'The copy has these events, and the trail ends before them.';
const DIFFERING = "The copy's text of these events isn't what the ledger has the hash of.";

async function makeComparison(pool: pg.Pool, sealsOnly: boolean) {
  const losses = await readLosses(pool);
  // Asked first: what gets its number meanwhile is no gap, and what a copy makes up takes no memory.
  const lastSeq = await lastSeqOf(pool);
  const coverage = makeCoverage();
  const matching = new Map<number, number>();
  const different = new Map<number, Anchor>();
  const beyond = new Map<number, Anchor>();
  const missing = new Set<number>();
  const past = new Set<number>();
  const forged = new Set<number>();
  const differing = new Set<number>();
  const cut = new Set<number>();
  const undecided: { readonly seq: number; readonly problem: Set<number> }[] = [];
  let copies = 0;

  async function seals(anchors: readonly Anchor[]): Promise<void> {
    if (anchors.length === 0) return;
    // Asked first: a seal that is made in between must not be taken for a missing one.
    const lastSeal = await lastSealOf(pool);
    const stored = await storedSeals(pool, anchors);
    for (const anchor of anchors.filter((one) => !losses.isForeign(one))) {
      const found = stored.get(anchor.seal);
      const seal = found?.incarnation === anchor.incarnation ? found : undefined;
      if (headOf(anchor) !== anchor.head) forged.add(anchor.seal);
      else if (seal === undefined && losses.takeSeal(anchor)) continue;
      else if (seal === undefined && losses.isPast(anchor)) past.add(anchor.seal);
      else if (seal === undefined && anchor.seal > lastSeal) beyond.set(anchor.seal, anchor);
      else if (seal === undefined) missing.add(anchor.seal);
      else if (agree(seal, anchor)) matching.set(anchor.seal, anchor.lastSeq);
      else different.set(anchor.seal, anchor);
    }
  }

  async function events(copied: readonly CopiedEvent[]): Promise<void> {
    if (copied.length === 0) return;
    copies += copied.length;
    const { rows } = await pool.query<Mismatch>(
      `select c.place - 1 as index, l.seq is not null as known,
         exists (select from audit.ledger x where x.event_id = case when c.event_id ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then c.event_id::uuid end) as kept,
         c.seq > (select coalesce(max(s.last_seq), 0) from audit.seals s) as behind
       from unnest($1::bigint[], $2::text[], $3::text[]) with ordinality as c (seq, leaf, event_id, place)
       left join audit.ledger l on l.seq = c.seq
       where l.leaf is distinct from decode(c.leaf, 'hex')`,
      [
        copied.map(({ seq }) => seq),
        copied.map(({ leaf }) => leaf),
        copied.map(({ eventId }) => eventId),
      ],
    );
    const perhapsLost = new Set<number>();
    for (const { index, known, behind, kept } of rows) {
      const { seq } = copied[Number(index)] ?? { seq: 0 };
      const problem = !known && behind ? cut : differing;
      if (kept) problem.add(seq);
      else {
        undecided.push({ seq, problem });
        perhapsLost.add(Number(index));
      }
    }
    for (const [index, { seq }] of copied.entries()) if (!perhapsLost.has(index)) placeholder(seq);
  }

  /** Decides by the copy's seals, once all are read. A lost event has the number of another one, and doesn't stand for that. */
  function decide(): void {
    for (const { seq, problem } of undecided.splice(0)) {
      if (losses.takeEvent({ seq })) continue;
      problem.add(seq);
      placeholder(seq);
    }
  }

  /** Counts an event as there, be it its text or what stands for it. */
  function placeholder(seq: number | null): void {
    if (seq !== null && seq <= lastSeq) coverage.add(seq);
  }

  function findProblems(): Problem[] {
    const problems: Problem[] = [];
    const add = (status: string, seal: number | null, detail: string, seqs?: Set<number>) =>
      problems.push({ status, seal, seqs: [...(seqs ?? [])].sort((a, b) => a - b), detail });
    for (const seal of forged) add('anchor_broken', seal, BROKEN);
    for (const [seal, { head, firstSeq, lastSeq }] of different) {
      const two = `Another anchor of this number has the head ${head}: there were two trails, as after a restored backup, or one was rewritten.`;
      const one = `Its anchor covers ${firstSeq} to ${lastSeq} and has the head ${head}; the seal in the database differs.`;
      if (matching.has(seal)) add('anchors_disagree', seal, two);
      else add('seal_rewritten', seal, one);
    }
    for (const seal of missing) add('seal_missing', seal, MISSING);
    for (const seal of past) add('seal_missing', seal, PAST);
    const end = largest(beyond.keys());
    if (end !== null) {
      const seq = beyond.get(end)?.lastSeq ?? 0;
      const gone = `The anchors go on to seal ${end}, event ${seq}: ${beyond.size} seals at the end are gone.`;
      add('tail_cut', null, gone);
    } else if (cut.size > 0) add('tail_cut', null, CUT, cut);
    if (differing.size > 0) add('copy_differs', null, DIFFERING, differing);
    problems.push(...gapProblems());
    return problems;
  }

  function gapProblems(): Problem[] {
    const status = 'copy_incomplete';
    const of = { status, seal: null };
    if (sealsOnly) {
      const gaps = gapsBetween([...sealNumbers()].sort((a, b) => a - b));
      const detail = `The copy lacks the seals ${formatRanges(gaps, MAX_LISTED)}, and has earlier and later ones: their events are missing too, or were filtered out.`;
      return gaps.length === 0 ? [] : [{ ...of, seqs: [], detail }];
    }
    const found = coverage.report();
    if (found === null || found.missing === 0) return [];
    const { first, last, missing: count, gaps } = found;
    const detail = `The copy goes from event ${first} to ${last}, and lacks ${count} between them.`;
    return [{ ...of, seqs: numbersOf(gaps, MAX_LISTED), detail }];
  }

  function sealNumbers(): Set<number> {
    const found = [matching.keys(), different.keys(), beyond.keys(), missing, past, forged];
    return new Set(found.flatMap((seals) => [...seals]));
  }

  async function report(): Promise<AnchorReport> {
    decide();
    const numbers = sealNumbers();
    const lost = losses.found();
    if (numbers.size === 0 && lost.length === 0) throw new NoAnchorsError();
    const last = largest(matching.keys()) ?? 0;
    const lastSeal = await lastSealOf(pool);
    return {
      anchored: numbers.size,
      matching: matching.size,
      copies,
      coverage: coverage.report(),
      sealsOnly,
      last: matching.size === 0 ? null : { seal: last, seq: matching.get(last) ?? 0 },
      behind: Math.max(0, lastSeal - last),
      unanchored: last - matching.size,
      lost,
      problems: findProblems(),
    };
  }

  return { seals, events, placeholder, report };
}

/** Null when there are none. Math.max takes only so many arguments. */
function largest(numbers: Iterable<number>): number | null {
  let max: number | null = null;
  for (const n of numbers) if (max === null || n > max) max = n;
  return max;
}

/** A number of the copy whose text isn't what the ledger has under it, and whether the ledger has its event under another. */
interface Mismatch {
  readonly index: string;
  readonly known: boolean;
  readonly kept: boolean;
  readonly behind: boolean;
}

/** A seal as the database has it; numbers as text, for they may have been made larger than any of JavaScript's. */
type Stored = Readonly<
  Record<'seal' | 'incarnation' | 'first' | 'last' | 'root' | 'head' | 'at', string>
>;

/** Whether an anchor says the same as the seal, time included. */
function agree(seal: Stored, anchor: Anchor): boolean {
  return (
    seal.head === anchor.head &&
    seal.root === anchor.root &&
    Number(seal.first) === anchor.firstSeq &&
    Number(seal.last) === anchor.lastSeq &&
    seal.at === anchor.sealedAt
  );
}

/** The number of the last seal; 0 when there is none. */
async function lastSealOf(pool: pg.Pool): Promise<number> {
  const { rows } = await pool.query<{ last: string }>(
    'select coalesce(max(seal_no), 0) as last from audit.seals',
  );
  return Number(rows[0]?.last ?? 0);
}

/** The number of the last event that has one; 0 when there is none. */
async function lastSeqOf(pool: pg.Pool): Promise<number> {
  const { rows } = await pool.query<{ last: string }>(
    'select coalesce(max(seq), 0) as last from audit.ledger',
  );
  return Number(rows[0]?.last ?? 0);
}

/** The seals that the anchors are of, by their numbers. */
async function storedSeals(pool: pg.Pool, anchors: readonly Anchor[]) {
  const { rows } = await pool.query<Stored>(
    `select seal_no as seal, incarnation, first_seq as first, last_seq as last,
       encode(root, 'hex') as root, encode(head, 'hex') as head,
       to_char(sealed_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as at
     from audit.seals
     where seal_no = any ($1::bigint[])`,
    [anchors.map(({ seal }) => seal)],
  );
  return new Map(rows.map((row) => [Number(row.seal), row]));
}
