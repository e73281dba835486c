import type pg from 'pg';
import { within } from '../../lib/wait.ts';
import type { Logger } from '../../lib/log.ts';
import { readMessage, type Anchor } from '../verification/copy.ts';
import { queryOf, type Query } from './outbox.ts';
import { NotReadableError, type AuditEvent, type Sink } from './sink.ts';

/** How long applying waits for the destination's answer. An outage of the destination must hold up no schedule for longer. */
const MAX_WAIT_MS = 3_000;
const SEALED = '{"eventType": "audit.sealed"';

/** Why nothing may be forwarded: `ahead`, a destination has more of this trail; `refused`, it is the original's of this copy. */
type Obstacle = 'ahead' | 'refused' | null;

interface State {
  readonly trail: string;
  readonly server: string;
  readonly obstacle: Obstacle;
}

const SENTENCES = {
  ahead:
    'a destination has audit events of this trail that the database lacks, as after the restore of an older snapshot or a failover that lost changes: nothing is numbered or forwarded, and schedules up to its newest seal are held, until a person decides: halyard restore accept',
  refused:
    'this database is a copy, and the destination belongs to its original: nothing is forwarded there; set another destination',
};

export type DivergenceCheck = ReturnType<typeof makeDivergenceCheck>;

/**
 * Notices that the database is an older state of its trail than what a destination has.
 *
 * The destination is asked for its newest seal once for each server that the process is led to, before anything is forwarded: a
 * failover or a restore shows as another server. In between the last seal that it confirmed to this process serves as the answer.
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
  let confirmed: Anchor | null = null;
  let obstacle: Obstacle = null;
  let unasked = false;
  let connected = true;
  // What a new connection leads to may be another server.
  pool.on('connect', () => (connected = true));

  /** The newest seal that the destination has; null when it has none or may not be read. Asked before the database is looked at. */
  async function ask(trail: string, signal: AbortSignal): Promise<Anchor | null> {
    unasked = true;
    try {
      const seal = (await sink.newestSeal?.(trail, signal)) ?? null;
      unasked = false;
      return seal;
    } catch (error) {
      if (!(error instanceof NotReadableError)) throw error;
      log.warn(
        { err: error, destination },
        `${error.message} Halyard can't notice that a restored database is behind it, and goes on`,
      );
      return null;
    }
  }

  async function check(query: Query, signal: AbortSignal): Promise<Obstacle> {
    let state = await readState(query, destination, confirmed);
    if (state.server !== askedOf) {
      const { server } = state;
      const newest = await ask(state.trail, signal);
      if (newest !== null) state = await readState(query, destination, newest);
      askedOf = server;
    }
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
    async settled(signal: AbortSignal): Promise<void> {
      if (!connected) return;
      connected = false;
      const checking = check(queryOf(pool), signal).catch((error: unknown) => {
        log.debug({ err: error, destination }, 'the destination could not be asked');
      });
      await within(MAX_WAIT_MS, checking);
    },
    /** Notes the last seal among events that the destination has confirmed. */
    note(events: readonly AuditEvent[]): void {
      const last = events.findLast(({ message }) => message.startsWith(SEALED));
      const seal = last === undefined ? null : readMessage(last.message);
      if (seal !== null && 'head' in seal) confirmed = seal;
    },
    /** 1 for what is so, for metrics. */
    gauges: () => ({ unasked: Number(unasked), refused: Number(obstacle === 'refused') }),
  };
}

async function readState(query: Query, destination: string, seal: Anchor | null): Promise<State> {
  const [state] = await query<State>(
    'select trail, server, obstacle from app_private.delivery_state($1, $2)',
    [destination, seal === null ? null : JSON.stringify(seal)],
  );
  if (state === undefined) throw new Error('app_private.delivery_state gave no row.');
  return state;
}
