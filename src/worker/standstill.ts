import pg from 'pg';
import type { Logger } from '../lib/log.ts';
import { makeOutage } from '../lib/outage.ts';
import { blockersOfRole, type Blocker } from '../postgres/blockers.ts';
import type { TimedQuery } from '../postgres/session.ts';

/** What can stand still. */
export const WORKS = ['applying', 'numbering', 'forwarding'] as const;
export type Work = (typeof WORKS)[number];

/** The same schedule or event has been next for so long: far above what a burst or a retry takes. */
const STANDSTILL_MS = 60_000;
/** Looks per such time. */
const LOOKS = 12;
/** For the answer, and of that for each lock. */
const ANSWER_MS = 5_000;
const LOCK_TIMEOUT_MS = 300;

const SENTENCES: Readonly<Record<Work, { failing: string; back: string }>> = {
  applying: {
    failing: 'applying stands still: the same schedule has been due for long',
    back: 'applying goes on',
  },
  numbering: {
    failing:
      'numbering stands still: no audit event gets a number or a seal, nor is any new one forwarded',
    back: 'numbering goes on',
  },
  forwarding: {
    failing: 'forwarding stands still: the destination has confirmed no further audit event',
    back: 'forwarding goes on',
  },
};

interface Waiting {
  readonly work: Work;
  /** Of forwarding; null for the other kinds. */
  readonly destination: string | null;
  readonly item: string;
  /** Since when it waits; null where that can't be read. */
  readonly dueAt: Date | null;
}

/**
 * Notices that a kind of work stands still, for any reason: by what is next in the database, which is the same at each look.
 * Any number of workers share the work, so it may be another one's that stands still.
 *
 * @param options.destinations the names of the cursors that are to move now
 * @param options.standstillMs milliseconds for which the same is next; 60,000 by default
 */
export function makeStandstillWatch(options: {
  readonly pool: pg.Pool;
  readonly destinations: () => readonly string[];
  readonly log: Logger;
  readonly standstillMs?: number | undefined;
}) {
  const { pool, destinations, log, standstillMs = STANDSTILL_MS } = options;
  const states = new Map<string, ReturnType<typeof makeState>>();
  let looking: Promise<void> | null = null;
  const timer = setInterval(() => {
    looking ??= look().finally(() => (looking = null));
  }, standstillMs / LOOKS);
  timer.unref();

  async function look(): Promise<void> {
    try {
      const waiting = await readWaiting(pool, destinations());
      for (const one of waiting)
        if (!states.has(keyOf(one))) states.set(keyOf(one), makeState(log, one, standstillMs));
      const late = [...states].flatMap(([key, state]) =>
        state.see(waiting.find((one) => keyOf(one) === key)) ? state : [],
      );
      if (late.length === 0) return;
      // That work stands still is said without them, too.
      const blockers = await blockersOfRole(pool, 'halyard worker').catch(() => []);
      for (const { say } of late) say(blockers);
    } catch (error) {
      // That the database is away shows elsewhere.
      log.debug({ err: error }, 'what waits could not be read');
    }
  }

  return {
    /** The kinds of work that stand still. */
    standing: (): Work[] => {
      const works = [...states.values()].flatMap(({ work, stands }) => (stands() ? work : []));
      return [...new Set(works)];
    },
    /** Looks no more; resolves once a look in hand is over. */
    close: async (): Promise<void> => {
      clearInterval(timer);
      await looking;
    },
  };
}

export type StandstillWatch = ReturnType<typeof makeStandstillWatch>;

function keyOf({ work, destination }: Waiting): string {
  return `${work} ${destination ?? ''}`;
}

function makeState(log: Logger, { work, destination }: Waiting, standstillMs: number) {
  const details = destination === null ? {} : { destination };
  const outage = makeOutage(log, SENTENCES[work], details);
  let next: { item: string; since: number; dueAt: Date | null } | null = null;
  let blockers: readonly Blocker[] = [];
  let stands = false;
  const sinceMs = () => (next === null ? 0 : performance.now() - next.since);
  return {
    work,
    stands: () => stands,
    /** Notes what is next; whether that has been so for half of the time already. */
    see: (waiting: Waiting | undefined): boolean => {
      if (waiting === undefined || waiting.item !== next?.item) {
        outage.back();
        stands = false;
        blockers = [];
        next = waiting ? { ...waiting, since: performance.now() } : null;
      }
      return sinceMs() >= standstillMs / 2;
    },
    /** Says that it stands still, with the sessions that were last seen in the way: a step waits for them, and fails, and waits again. */
    say: (seen: readonly Blocker[]): void => {
      if (seen.length > 0) blockers = seen;
      stands = sinceMs() >= standstillMs;
      if (stands) outage.failed(undefined, { next: next?.item, since: next?.dueAt, blockers });
    },
  };
}

/**
 * One message is one transaction, so the time-outs are its own, also through PgBouncer. Such a message takes no parameters. Applying and
 * numbering wait for no destination: also without one they are asked for.
 */
async function readWaiting(pool: pg.Pool, destinations: readonly string[]): Promise<Waiting[]> {
  const names = ['', ...destinations].map((name) => pg.escapeLiteral(name)).join(', ');
  const query: TimedQuery = {
    text: `
      set local lock_timeout = ${LOCK_TIMEOUT_MS};
      set local statement_timeout = ${ANSWER_MS};
      select w.work, nullif(d.name, '') as destination, w.item, w.due_at as "dueAt"
      from unnest(array[${names}]) as d (name)
      cross join lateral app_private.waiting_work(d.name) as w
      where (w.work = 'forwarding') = (d.name <> '')`,
    query_timeout: ANSWER_MS,
  };
  const results: unknown = await pool.query(query);
  return (results as [unknown, unknown, pg.QueryResult<Waiting>])[2].rows;
}
