import type pg from 'pg';
import { afterAll, beforeAll, beforeEach, expect, vi } from 'vitest';
import { makeChanges } from '../../src/graphql/live/changes.ts';
import type { Changes } from '../../src/graphql/live/changes.ts';
import { makeSubscriptionSource } from '../../src/graphql/live/subscription_source.ts';
import type {
  SubscriptionSource,
  SubscribedEntity,
  Results,
} from '../../src/graphql/live/subscription_source.ts';
import { makeReader, authorizationScope, type Reader } from '../../src/graphql/live/reader.ts';
import { makePlanning } from '../../src/graphql/planning.ts';
import { makeFairQueue } from '../../src/lib/fair_queue.ts';
import { makePool } from '../../src/postgres/pool.ts';
import type { TestDatabase } from './database.ts';
import { makeTestLog } from './log.ts';

/** An admin without limits. */
export const ADMIN = {
  userId: null,
  email: null,
  role: 'admin',
  environments: null,
  expiresAt: null,
} as const;
/** All events. */
export const EVENTS = { kind: 'events' } as const;

/** A result of a subscription. */
export interface Told {
  readonly data?: { readonly ids: readonly string[]; readonly truncated: boolean };
  readonly errors?: readonly { readonly extensions: { readonly code: string } }[];
}

/** A feed of the changes of a database, a new one for each test. */
export function useFeed(database: TestDatabase) {
  const { log } = makeTestLog();
  let pool: pg.Pool;
  let changes: Changes;
  let feed: SubscriptionSource;
  let runs: Map<string, unknown[]>;

  /** @param wrap changes how it reads */
  function begin(wrap = (reader: Reader) => reader): void {
    const reader = wrap(makeReader(pool));
    feed = makeSubscriptionSource({
      changes,
      reader,
      turns: makeFairQueue({ slots: 2, perUser: 2 }),
      planning: makePlanning(256),
      log,
    });
  }

  beforeAll(() => {
    pool = makePool(database.authenticatorUrl, { name: 'halyard-test', log });
    changes = makeChanges(database.authenticatorUrl, log);
    void changes.start();
  });
  afterAll(async () => {
    await changes.close();
    await pool.end();
  });
  beforeEach(async () => {
    begin();
    runs = new Map();
    await vi.waitFor(() => expect(changes.healthy()).toBe(true), 5_000);
  });

  return {
    begin,
    get feed() {
      return feed;
    },
    get changes() {
      return changes;
    },
    /** Of each key, what was executed. */
    get runs() {
      return runs;
    },
    /** A subscription whose results are what it was given. */
    subscription: (key: string, changed: Partial<SubscribedEntity> = {}): SubscribedEntity => ({
      key,
      user: 'alice',
      rights: authorizationScope({ ...ADMIN, role: 'admin' }),
      log,
      async run(_rights, lookUp) {
        const visible = await lookUp(EVENTS);
        if (visible === null) return null;
        runs.set(key, [...(runs.get(key) ?? []), visible]);
        return { data: { ...visible } };
      },
      ...changed,
    }),
    follow: async (followed: SubscribedEntity): Promise<Results> => {
      const results = await feed.follow(followed);
      if (!(Symbol.asyncIterator in results))
        throw new Error('It was refused.', { cause: results });
      return results;
    },
    endAll: async (all: readonly Results[]): Promise<void> => {
      for (const results of all) await results.return();
      expect(feed.size).toBe(0);
    },
  };
}

/** The next result; null at the end. */
export async function next(results: Results): Promise<Told | null> {
  const { done, value } = await results.next();
  return done === true ? null : (JSON.parse(value) as Told);
}
