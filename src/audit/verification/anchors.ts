import type pg from 'pg';
import { headOf } from '../seals/seal.ts';
import {
  messagesOf,
  readMessage,
  readSubstitute,
  type Anchor,
  type BrokenSeal,
  type CopiedEvent,
} from './copy.ts';
import {
  coverageOf,
  formatRanges,
  makeNumberSet,
  numbersIn,
  type Coverage,
  type NumberSet,
} from './coverage.ts';
import { readLosses, type Loss } from './losses.ts';
import { matches, readEnd, storedSeals } from './stored_seals.ts';
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
  /** Whether the source gave seals only, and no events. */
  readonly sealsOnly: boolean;
  /** The last seal with an anchor that agrees; null when there is none. */
  readonly last: { readonly seal: number; readonly seq: number } | null;
  /** Seals after that one: nothing outside vouches for them yet. */
  readonly behind: number;
  /** Seals before it without an anchor of their own: the chain vouches for them. */
  readonly unanchored: number;
  /** What the copy has of histories whose loss was accepted. No problems. */
  readonly lost: readonly Loss[];
  readonly problems: readonly Problem[];
}

/** Thrown when the copy holds no audit.sealed record at all, so that nothing can be checked. */
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
 * @param lines of the copy, in any order, some of them perhaps twice; lines that are something else are ignored
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
  // Read first: what gets its number meanwhile is no gap, and what a copy makes up takes no memory.
  const { seq: lastSeq } = await readEnd(pool);
  const present = makeNumberSet();
  /** Numbers of events in seals of another database's trail. */
  const foreign = makeNumberSet();
  const matching = new Map<number, number>();
  const different = new Map<number, Anchor>();
  const beyond = new Map<number, Anchor>();
  const missing = new Set<number>();
  const past = new Set<number>();
  const forged = new Set<number>();
  const unreadable: BrokenSeal[] = [];
  const differing = { found: makeNumberSet(), undecided: makeNumberSet() };
  const cut = { found: makeNumberSet(), undecided: makeNumberSet() };
  let copies = 0;

  async function seals(anchors: readonly Anchor[]): Promise<void> {
    if (anchors.length === 0) return;
    // Read first: a seal that is made in between must not be taken for a missing one.
    const { seal: lastSeal } = await readEnd(pool);
    const stored = await storedSeals(pool, anchors);
    for (const anchor of anchors) {
      const { seal } = anchor;
      const known = stored.get(seal);
      if (losses.isForeign(anchor)) addForeign(anchor);
      else if (headOf(anchor) !== anchor.head) forged.add(seal);
      else if (known?.incarnation === anchor.incarnation)
        if (matches(known, anchor)) matching.set(seal, anchor.lastSeq);
        else different.set(seal, anchor);
      else if (losses.takeSeal(anchor)) continue;
      else if (losses.isPast(anchor)) past.add(seal);
      else if (seal > lastSeal) beyond.set(seal, anchor);
      else missing.add(seal);
    }
  }

  function addForeign({ firstSeq, lastSeq: last }: Anchor): void {
    if (last - firstSeq >= MAX_SEALED) return; // Made up.
    for (const seq of numbersIn([[firstSeq, last]])) foreign.add(seq);
  }

  async function events(copied: readonly CopiedEvent[]): Promise<void> {
    if (copied.length === 0) return;
    copies += copied.length;
    const perhapsLost = new Set<number>();
    for (const { index, isCut, isElsewhere } of await readMismatches(pool, copied)) {
      const problem = isCut ? cut : differing;
      (isElsewhere ? problem.found : problem.undecided).add(copied[index]?.seq ?? 0);
      if (!isElsewhere) perhapsLost.add(index);
    }
    for (const [index, { seq }] of copied.entries()) if (!perhapsLost.has(index)) addPresent(seq);
  }

  /**
   * Decides by the copy's seals, once all are read, about events that the ledger lacks. A lost event has the number of another one,
   * and doesn't stand for that; nor does an event of another trail in the same place, which only that trail's seal shows.
   */
  function decide(): void {
    for (const { found, undecided } of [cut, differing])
      for (const seq of undecided.numbers()) {
        if (losses.takeEvent(seq) || foreign.has(seq)) continue;
        found.add(seq);
        addPresent(seq);
      }
  }

  /** A message that is neither an anchor nor the text of an event. */
  function other(message: string): void {
    const substitute = readSubstitute(message);
    if (substitute === null) return;
    if ('seq' in substitute) addPresent(substitute.seq);
    else if (substitute.trail === null || !losses.isForeign({ trail: substitute.trail }))
      unreadable.push(substitute);
  }

  /** Counts an event as there, be it its text or what stands for it. */
  function addPresent(seq: number): void {
    if (seq <= lastSeq) present.add(seq);
  }

  function findProblems(): Problem[] {
    const problems: Problem[] = [];
    const add = (status: string, seal: number | null, detail: string) =>
      problems.push({ status, seal, seqs: [], detail });
    for (const seal of forged) add('anchor_broken', seal, BROKEN);
    if (unreadable[0] !== undefined)
      add('anchor_broken', unreadable[0].seal, unreadableDetail(unreadable.length));
    for (const [seal, { head, firstSeq, lastSeq: last }] of different) {
      const two = `Another anchor of this number has the head ${head}: there were two trails, as after a restored backup, or one was rewritten.`;
      const one = `Its anchor covers ${firstSeq} to ${last} and has the head ${head}; the seal in the database differs.`;
      if (matching.has(seal)) add('anchors_disagree', seal, two);
      else add('seal_rewritten', seal, one);
    }
    for (const seal of missing) add('seal_missing', seal, MISSING);
    for (const seal of past) add('seal_missing', seal, PAST);
    if (beyond.size > 0) {
      const end = largest(beyond.keys());
      const seq = beyond.get(end)?.lastSeq ?? 0;
      const gone = `The anchors go on to seal ${end}, event ${seq}: ${beyond.size} seals at the end are gone.`;
      add('tail_cut', null, gone);
    } else problems.push(...eventProblems('tail_cut', CUT, cut.found));
    problems.push(...eventProblems('copy_differs', DIFFERING, differing.found), ...gapProblems());
    return problems;
  }

  function gapProblems(): Problem[] {
    const numbers = sealsOnly ? [...sealNumbers()].sort((a, b) => a - b) : present.numbers();
    // One more than is listed, so that the list shows that it goes on.
    const found = coverageOf(numbers, MAX_LISTED + 1);
    if (found === null || found.missing === 0) return [];
    const { first, last, missing: count, gaps } = found;
    const seqs = sealsOnly ? [] : numbersIn(gaps).take(MAX_LISTED).toArray();
    const detail = sealsOnly
      ? `The copy lacks the seals ${formatRanges(gaps, MAX_LISTED)}, and has earlier and later ones: their events are missing too, or were filtered out.`
      : `The copy goes from event ${first} to ${last}, and lacks ${count} between them.`;
    return [{ status: 'copy_incomplete', seal: null, seqs, detail }];
  }

  function sealNumbers(): Set<number> {
    const found = [matching.keys(), different.keys(), beyond.keys(), missing, past, forged];
    return new Set(found.flatMap((seals) => [...seals]));
  }

  async function report(): Promise<AnchorReport> {
    decide();
    const { size: anchored } = sealNumbers();
    const lost = losses.found();
    if (anchored === 0 && lost.length === 0) throw new NoAnchorsError();
    const last = largest(matching.keys());
    const { seal: lastSeal } = await readEnd(pool);
    return {
      anchored,
      matching: matching.size,
      copies,
      coverage: coverageOf(present.numbers()),
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
function eventProblems(status: string, sentence: string, events: NumberSet): Problem[] {
  const count = events.size();
  const more = count > MAX_LISTED ? ` They are ${count}; the first are listed.` : '';
  const seqs = events.numbers().take(MAX_LISTED).toArray();
  return count === 0 ? [] : [{ status, seal: null, seqs, detail: `${sentence}${more}` }];
}

const unreadableDetail = (count: number) =>
  `The copy has ${count === 1 ? 'an audit.sealed record' : `${count} audit.sealed records`} without what a seal has: it was changed, or another version of Halyard wrote it.`;

/** 0 when there are none. Math.max itself takes only so many arguments. */
function largest(numbers: IteratorObject<number>): number {
  return numbers.reduce((a, b) => Math.max(a, b), 0);
}

/** The events of the copy whose text isn't what the ledger has under their numbers. */
async function readMismatches(pool: pg.Pool, copied: readonly CopiedEvent[]) {
  /** `isCut`: the trail ends before it. `isElsewhere`: the ledger has its event under another number. */
  const { rows } = await pool.query<{ index: number; isCut: boolean; isElsewhere: boolean }>(
    `select (c.place - 1)::integer as index,
       l.seq is null and c.seq > (select coalesce(max(s.last_seq), 0) from audit.seals s) as "isCut",
       exists (select from audit.ledger x where x.event_id = case when c.event_id ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then c.event_id::uuid end) as "isElsewhere"
     from unnest($1::bigint[], $2::text[], $3::text[]) with ordinality as c (seq, leaf, event_id, place)
     left join audit.ledger l on l.seq = c.seq
     where l.leaf is distinct from decode(c.leaf, 'hex')`,
    [
      copied.map(({ seq }) => seq),
      copied.map(({ leaf }) => leaf),
      copied.map(({ eventId }) => eventId),
    ],
  );
  return rows;
}
