import type pg from 'pg';
import { settlesWithin } from '../../lib/wait.ts';
import type { Logger } from '../../lib/log.ts';
import { queryOf, type Query } from './outbox.ts';
import { NotReadableError, type AuditEvent, type Sink } from './sink.ts';
import { extendTail, type Tail } from './tail.ts';

/** How long applying waits for the destination's answer. An outage of the destination must hold up no schedule for longer. */
const MAX_WAIT_MS = 3_000;
/** While it gives none, applying goes on, and asks again so often. */
const ASK_AGAIN_MS = 1_000;

/** Why nothing may be forwarded: `ahead`, a destination has more of this trail; `refused`, it is the original's of this copy. */
type Obstacle = 'ahead' | 'refused' | null;

interface State {
  readonly trail: string;
  readonly server: string;
  /** How far the destination has confirmed. */
  readonly delivered: string;
  /** Up to where it gets nothing. */
  readonly given_up: string;
  readonly obstacle: Obstacle;
}

const SENTENCES = {
  ahead:
    'a destination has audit events of this trail that the database lacks, as after the restore of an older snapshot or a failover that lost changes: nothing is numbered or forwarded, and schedules up to its newest seal are held, until a person decides: halyard restore accept',
  refused:
    'this database is a copy, and the destination belongs to its original: nothing is forwarded there; set another destination',
};

export type DivergenceCheck = ReturnType<typeof makeDivergenceCheck>;

/** As where the loss was accepted before the destination was asked. */
const NOT_SENT =
  'these events are not sent to the destination: it has their numbers already, of a history that was given up';
const UNNOTICED = "Halyard can't notice that a restored database is behind it, and goes on";

/**
 * Notices that the database is an older state of its trail than what a destination has.
 *
 * The destination is asked for the end of what it holds once for each server that the process is led to, before anything is
 * forwarded: a failover or a restore shows as another server. In between what it last confirmed to this process serves as the answer.
 *
 * @param options.destination the cursor's name
 */
export function makeDivergenceCheck(options: {
  readonly pool: pg.Pool;
  readonly sink: Sink;
  readonly destination: string;
  readonly log: Logger;
}) {
  const { pool, sink, destination, log } = options;
  let askedOf: string | null = null;
  let trail = '';
  let confirmed: Tail | null = null;
  let obstacle: Obstacle = null;
  let unasked = false;
  let emptied = false;
  // What a new connection leads to may be another server.
  let connected = true;
  pool.on('connect', () => (connected = true));

  /** What the destination holds at its end; null when it may not be read. Asked before the database is looked at. */
  async function ask(state: State, signal: AbortSignal): Promise<Tail | null> {
    unasked = true;
    let tail: Tail | null = null;
    let why: string | null;
    let err: unknown;
    try {
      tail = (await sink.readTail?.(state.trail, signal)) ?? null;
      emptied = tail !== null && isEmptied(tail, state);
      why = emptied ? emptiedSentence(state) : (tail?.unsure ?? null);
    } catch (error) {
      if (!(error instanceof NotReadableError)) throw error;
      err = error;
      why = error.message;
    }
    unasked = why !== null;
    if (why !== null)
      log.warn({ ...(err === undefined ? {} : { err }), destination }, `${why} ${UNNOTICED}`);
    return tail;
  }

  async function check(query: Query, signal: AbortSignal): Promise<Obstacle> {
    let state = await readState(query, destination, confirmed);
    if (state.server !== askedOf) {
      const { server } = state;
      const tail = await ask(state, signal);
      if (tail !== null) state = await readState(query, destination, tail);
      const { delivered: after, given_up: to } = state;
      if (Number(to) > Number(after)) log.warn({ destination, after, to }, NOT_SENT);
      askedOf = server;
    }
    ({ trail } = state);
    say(state.obstacle);
    return state.obstacle;
  }

  function say(found: Obstacle): void {
    if (found === obstacle) return;
    obstacle = found;
    if (found === null) log.info({ destination }, 'forwarding goes on');
    else log.error({ destination }, SENTENCES[found]);
  }

  return {
    /**
     * Whether events may be forwarded; to be asked under the lease, before anything is numbered.
     *
     * @throws the destination's error when it can't be asked, and the database's
     */
    permits: async (query: Query, signal: AbortSignal): Promise<boolean> =>
      (await check(query, signal)) === null,
    /** Before schedules are applied: asks where the process has been led to another server, but waits for 3 s at most. Never rejects. */
    settled: makePatience({
      isNeeded: () => connected,
      async ask(signal) {
        connected = false;
        try {
          await check(queryOf(pool), signal);
        } catch (error) {
          connected = true;
          log.debug({ err: error, destination }, 'the destination could not be asked');
          throw error;
        }
      },
    }),
    /** Notes the last of the events that the destination has confirmed, and their last seal. */
    note(events: readonly AuditEvent[]): void {
      if (events.length === 0) return;
      confirmed = extendTail(confirmed, trail, events);
      // What was empty has a seal now.
      if (emptied && confirmed.seals.length > 0) emptied = unasked = false;
    },
    /** 1 for what is so, for metrics. */
    gauges: () => ({ unasked: Number(unasked), refused: Number(obstacle === 'refused') }),
  };
}

/** Whether a destination holds nothing of what it has confirmed. */
function isEmptied({ unsure, seals, events }: Tail, { delivered }: State): boolean {
  return unsure === undefined && seals.length + events.length === 0 && delivered !== '0';
}

function emptiedSentence({ delivered }: State): string {
  return `The destination holds nothing of this trail, though it has confirmed events up to ${delivered}: it was deleted, or doesn't keep them for so long.`;
}

/**
 * Asks where that is needed. The first to want an answer waits for it, 3 s at most; while asking fails, the others go on without, and
 * it is asked beside them, once a second.
 */
function makePatience({
  isNeeded,
  ask,
}: {
  readonly isNeeded: () => boolean;
  readonly ask: (signal: AbortSignal) => Promise<void>;
}) {
  let asking: Promise<void> | null = null;
  let deadline: number | null = null;
  let askAgainAt = 0;

  async function askOnce(signal: AbortSignal): Promise<void> {
    try {
      await ask(signal);
      deadline = null;
    } catch {
      askAgainAt = performance.now() + ASK_AGAIN_MS;
    } finally {
      asking = null;
    }
  }

  return async (signal: AbortSignal): Promise<void> => {
    if (asking === null && (!isNeeded() || performance.now() < askAgainAt)) return;
    asking ??= askOnce(signal);
    deadline ??= performance.now() + MAX_WAIT_MS;
    const left = deadline - performance.now();
    if (left > 0) await settlesWithin(left, asking);
  };
}

async function readState(query: Query, destination: string, tail: Tail | null): Promise<State> {
  const [state] = await query<State>(
    'select trail, server, delivered, given_up, obstacle from app_private.delivery_state($1, $2)',
    [destination, tail === null ? null : JSON.stringify(tail)],
  );
  if (state === undefined) throw new Error('app_private.delivery_state gave no row.');
  return state;
}
