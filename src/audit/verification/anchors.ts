import type pg from 'pg';
import { messagesOf, readBrokenSeal, readMessage, readPlaceholder } from './copy.ts';
import type { Anchor, BrokenSeal, CopiedEvent } from './copy.ts';
import { formatRanges, gapsBetween, makeCoverage, numbersOf } from './coverage.ts';
import type { Coverage, NumberSet } from './coverage.ts';
import { headOf } from '../seals/seal.ts';
import { readLosses, type Loss } from './losses.ts';
import { agree, lastSealOf, lastSeqOf, storedSeals } from './stored_seals.ts';
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
/** Events that one seal holds at most. */
const MAX_SEALED = 1_000;
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
      if (found === null) comparison.other(message);
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
  /** Numbers of seals whose trail is another database's. */
  const foreign = makeCoverage();
  const matching = new Map<number, number>();
  const different = new Map<number, Anchor>();
  const beyond = new Map<number, Anchor>();
  const missing = new Set<number>();
  const past = new Set<number>();
  const forged = new Set<number>();
  const unreadable = { first: null as BrokenSeal | null, count: 0 };
  const differing = { found: makeCoverage(), undecided: makeCoverage() };
  const cut = { found: makeCoverage(), undecided: makeCoverage() };
  let copies = 0;

  async function seals(anchors: readonly Anchor[]): Promise<void> {
    if (anchors.length === 0) return;
    // Asked first: a seal that is made in between must not be taken for a missing one.
    const lastSeal = await lastSealOf(pool);
    const stored = await storedSeals(pool, anchors);
    for (const anchor of anchors) {
      if (losses.isForeign(anchor)) {
        addForeign(anchor);
        continue;
      }
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

  function addForeign({ firstSeq, lastSeq }: Anchor): void {
    if (lastSeq - firstSeq >= MAX_SEALED) return; // Made up.
    for (let seq = firstSeq; seq <= lastSeq; seq++) foreign.add(seq);
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
      (kept ? problem.found : problem.undecided).add(seq);
      if (!kept) perhapsLost.add(Number(index));
    }
    for (const [index, { seq }] of copied.entries()) if (!perhapsLost.has(index)) placeholder(seq);
  }

  /**
   * Decides by the copy's seals, once all are read, about events that the ledger lacks. A lost event has the number of another one,
   * and doesn't stand for that; nor does an event of another trail in the same place, which only that trail's seal tells.
   */
  function decide(): void {
    for (const problem of [cut, differing])
      for (const seq of problem.undecided.numbers()) {
        if (losses.takeEvent({ seq }) || foreign.has(seq)) continue;
        problem.found.add(seq);
        placeholder(seq);
      }
  }

  /** A message that is neither an anchor nor the text of an event. */
  function other(message: string): void {
    placeholder(readPlaceholder(message));
    const broken = readBrokenSeal(message);
    if (broken === null || (broken.trail !== null && losses.isForeign({ trail: broken.trail })))
      return;
    unreadable.first ??= broken;
    unreadable.count += 1;
  }

  /** Counts an event as there, be it its text or what stands for it. */
  function placeholder(seq: number | null): void {
    if (seq !== null && seq <= lastSeq) coverage.add(seq);
  }

  function findProblems(): Problem[] {
    const problems: Problem[] = [];
    const add = (status: string, seal: number | null, detail: string) =>
      problems.push({ status, seal, seqs: [], detail });
    for (const seal of forged) add('anchor_broken', seal, BROKEN);
    if (unreadable.first !== null)
      add('anchor_broken', unreadable.first.seal, unreadableDetail(unreadable.count));
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
    } else problems.push(...aboutEvents('tail_cut', CUT, cut.found));
    problems.push(...aboutEvents('copy_differs', DIFFERING, differing.found));
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

  return { seals, events, other, report };
}

/** The problem of some events, of which the first are listed; none when there are none. */
function aboutEvents(status: string, sentence: string, found: NumberSet): Problem[] {
  const seqs: number[] = [];
  let count = 0;
  for (const seq of found.numbers()) if (++count <= MAX_LISTED) seqs.push(seq);
  if (count === 0) return [];
  const detail =
    count > MAX_LISTED ? `${sentence} They are ${count}; the first are listed.` : sentence;
  return [{ status, seal: null, seqs, detail }];
}

const unreadableDetail = (count: number) =>
  `The copy has ${count === 1 ? 'an audit.sealed record' : `${count} audit.sealed records`} without what a seal has: it was changed, or another version of Halyard wrote it.`;

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
