import type pg from 'pg';
import type { Logger } from '../../lib/log.ts';
import { sleep } from '../../lib/wait.ts';
import { LEASE_MS, withLease, type Lease } from '../../postgres/lease.ts';
import { makeNumbering, type Found } from './sequencer.ts';
import type { Sink, Undeliverable } from './sink.ts';
import { makeDivergenceCheck, type DivergenceCheck } from './divergence.ts';
import { advanceCursor, confirmedSeq, readPage, recordUndeliverable, type Page } from './outbox.ts';

/**
 * How a run ended. skimmed: all is delivered but what may have come late, or another forwarder numbers, for another run in a
 * moment; busy: another forwarder is at work; overtaken: another moved the cursor meanwhile; stopped: more may be left; held: nothing
 * may be forwarded until a person decides.
 */
export type Outcome = 'done' | 'skimmed' | 'busy' | 'overtaken' | 'stopped' | 'held';

interface Signals {
  readonly stopping: AbortSignal;
  readonly abort: AbortSignal;
}

export interface ForwarderOptions {
  readonly pool: pg.Pool;
  readonly sink: Sink;
  /** The cursor's name. */
  readonly destination: string;
  readonly log: Logger;
  /** Whether the database is behind the destination; one of its own by default. */
  readonly divergence?: DivergenceCheck;
  /** Events at a time; 1,000 by default. */
  readonly batch?: number;
  /** Milliseconds after which another forwarder takes over from one that is silent; 5,000 by default. */
  readonly leaseMs?: number;
}

/** While another destination's forwarder numbers a batch, which takes some 20 ms, this one asks again so often … */
const ASK_AGAIN_MS = 20;
/** … and so many times, with nothing to deliver meanwhile. */
const MAX_ASKING = 50;
/** How often the cursor follows a send that takes long; it is moved at each send's end in any case. */
const PROGRESS_MS = 1_000;

/** Copies the trail to one destination: number the events, send them, move the cursor. At least once, in order of seq. */
export function makeForwarder(options: ForwarderOptions) {
  const { pool, destination, batch = 1_000, leaseMs = LEASE_MS } = options;
  const divergence = options.divergence ?? makeDivergenceCheck(options);
  const numbering = makeNumbering();

  /** Numbers the next events while the last ones are being sent. */
  async function drain(lease: Lease, { stopping, abort }: Signals): Promise<Outcome> {
    const signal = AbortSignal.any([abort, lease.lost]);
    if (!(await divergence.permits(lease.query, AbortSignal.any([signal, stopping]))))
      return 'held';
    numbering.begin();
    let next = numbering.next(lease.query);
    let delivered: number | null = null;
    let asked = 0;
    while (!stopping.aborted) {
      const found = await next;
      const inHand = pageOf(found, delivered, batch);
      const page: Page = inHand ?? (await readPage(lease.query, destination, batch));
      const whole = inHand !== null || page.events.length < batch;
      if (found.numbered === 'busy' && page.events.length === 0) {
        if (++asked > MAX_ASKING) return 'skimmed';
        await sleep(ASK_AGAIN_MS, AbortSignal.any([stopping, lease.lost]));
      } else asked = 0;
      const ended = found.numbered === 'all' || found.numbered === 'skimmed';
      if (!ended) {
        next = numbering.next(lease.query);
        // It is awaited behind the send, which may fail before.
        next.catch(() => undefined);
      }
      if (
        page.events.length > 0 &&
        !(await sendPage(lease, page, signal, { ...options, divergence }))
      )
        return 'overtaken';
      delivered = page.events.at(-1)?.seq ?? page.from;
      if (whole && ended) return found.numbered === 'all' ? 'done' : 'skimmed';
    }
    return 'stopped';
  }

  return {
    /**
     * Delivers what the destination hasn't confirmed. What was in flight when it throws, or the process dies, is sent again.
     *
     * @param signals.stopping ends it after the batch in hand
     * @param signals.abort gives up the batch in hand as well
     * @throws the sink's or the database's error
     */
    async forward(signals: Signals): Promise<Outcome> {
      const work = (lease: Lease) => drain(lease, signals);
      const outcome = await withLease(pool, `forward.${destination}`, leaseMs, work);
      return outcome ?? 'busy';
    },
  };
}

export type Forwarder = ReturnType<typeof makeForwarder>;

/**
 * What was just numbered, when it is what comes next; null when the trail has to be asked.
 *
 * @param delivered the last seq that this run has delivered, null before it has asked where the cursor stands
 */
function pageOf({ events }: Found, delivered: number | null, batch: number): Page | null {
  const isNext = delivered !== null && events[0]?.seq === delivered + 1;
  // The seal's record doesn't count.
  return isNext && events.length <= batch + 1 ? { from: delivered, events } : null;
}

/** Sends one page and moves the cursor behind what has arrived, also when the rest fails; false when another has moved it. */
async function sendPage(
  lease: Lease,
  page: Page,
  caller: AbortSignal,
  { sink, destination, log, divergence }: ForwarderOptions & { divergence: DivergenceCheck },
): Promise<boolean> {
  const overtaken = new AbortController();
  const signal = AbortSignal.any([caller, overtaken.signal]);
  let count = 0;
  const arrived = () => confirmedSeq(page, count);
  let cursor = page.from;
  let movedAt = performance.now();
  let moving = Promise.resolve();

  async function move(): Promise<void> {
    const to = arrived();
    if (to === cursor || overtaken.signal.aborted) return;
    movedAt = performance.now();
    if (await advanceCursor(lease, destination, cursor, to)) cursor = to;
    else overtaken.abort(new Error('Another forwarder has the lease, or has moved the cursor.'));
  }

  function confirmed(events: number): void {
    count = events;
    if (performance.now() - movedAt < PROGRESS_MS) return;
    // A failure to move shows again at the end.
    moving = moving.then(move).catch(() => undefined);
  }

  const undeliverable: Undeliverable = (event, status) =>
    recordUndeliverable(lease, destination, event, status);

  // A destination that has confirmed nothing yet has a cursor too, so that no event is purged before it has it.
  if (page.from === 0 && !(await advanceCursor(lease, destination, 0, 0))) return false;
  try {
    await sink.send(page.events, signal, confirmed, undeliverable);
    count = page.events.length;
  } catch (error) {
    await moving.then(move).catch(() => undefined);
    if (!overtaken.signal.aborted) throw error;
  } finally {
    // Once a page: a seal's record is parsed.
    divergence.note(page.events.slice(0, count));
  }
  await moving.then(move);
  const range = { destination, from: page.from, to: arrived() };
  const sentTwice = 'another forwarder has taken over meanwhile; these events were sent twice';
  if (overtaken.signal.aborted) log.warn(range, sentTwice);
  else log.debug(range, 'audit events were delivered');
  return !overtaken.signal.aborted;
}
