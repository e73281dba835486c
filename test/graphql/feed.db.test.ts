import type pg from 'pg';
import { afterAll, beforeAll, beforeEach, expect, test, vi } from 'vitest';

import { makeChanges } from '../../src/graphql/live/changes.ts';
import type { Changes } from '../../src/graphql/live/changes.ts';
import { makeSubscriptionSource } from '../../src/graphql/live/subscription_source.ts';
import type {
  SubscriptionSource,
  SubscribedEntity,
  Results,
} from '../../src/graphql/live/subscription_source.ts';
import { makePlanning } from '../../src/graphql/planning.ts';
import { makeReader, authorizationScope } from '../../src/graphql/live/reader.ts';
import { makeFairQueue } from '../../src/lib/fair_queue.ts';
import { makePool } from '../../src/postgres/pool.ts';
import { useDatabase, withClient } from '../support/database.ts';
import { insertFlag } from '../support/factory.ts';
import { makeTestLog } from '../support/log.ts';

const database = useDatabase();
const { log } = makeTestLog();
let pool: pg.Pool;
let changes: Changes;
let source: SubscriptionSource;
/** Of each key, what was executed. */
let runs: Map<string, unknown[]>;

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
  source = makeSubscriptionSource({
    changes,
    reader: makeReader(pool),
    turns: makeFairQueue({ slots: 2, perUser: 2 }),
    planning: makePlanning(256),
    log,
  });
  runs = new Map();
  await vi.waitFor(() => expect(changes.healthy()).toBe(true), 5_000);
});

const ADMIN = { userId: null, email: null, role: 'admin', environments: null, expiresAt: null };
const EVENTS = { kind: 'events' } as const;

/** A subscription whose results are what it was given. */
const subscription = (key: string, changed: Partial<SubscribedEntity> = {}): SubscribedEntity => ({
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
});

async function follow(followed: SubscribedEntity): Promise<Results> {
  const results = await source.follow(followed);
  if (!(Symbol.asyncIterator in results)) throw new Error('It was refused.', { cause: results });
  return results;
}

interface Told {
  readonly data?: { readonly ids: readonly string[]; readonly truncated: boolean };
  readonly errors?: readonly { readonly extensions: { readonly code: string } }[];
}

/** The next result; null at the end. */
async function next(results: Results): Promise<Told | null> {
  const { done, value } = await results.next();
  return done === true ? null : (JSON.parse(value) as Told);
}

const asOwner = <T>(work: (client: pg.Client) => Promise<T>) => withClient(database.ownerUrl, work);
const insert = () => asOwner((client) => insertFlag(client));
const endAll = async (all: readonly Results[]) => {
  for (const results of all) await results.return();
  expect(source.size).toBe(0);
};

test('who follows the same shares one execution of each hint, and others have their own', async () => {
  const alike = await Promise.all(Array.from({ length: 20 }, () => follow(subscription('alike'))));
  const other = await follow(subscription('other'));
  expect(source.size).toBe(21);
  for (let round = 1; round <= 2; round += 1) {
    await insert();
    const told = await Promise.all([...alike, other].map(next));
    for (const each of told) expect(each).toEqual(told[0]);
    expect(runs.get('alike')).toHaveLength(round);
    expect(runs.get('other')).toHaveLength(round);
  }
  await endAll([...alike, other]);
});

test('who is slow holds up nobody, and gets what it missed in one', async () => {
  const [slow, quick] = [await follow(subscription('same')), await follow(subscription('same'))];
  const ids: string[] = [];
  for (let round = 0; round < 3; round += 1) {
    await insert();
    const told = await next(quick);
    expect(told?.data).toMatchObject({ truncated: false, ids: [expect.any(String)] });
    ids.push(...(told?.data?.ids ?? []));
  }
  const told = await next(slow);
  expect(told?.data?.truncated).toBe(false);
  expect([...(told?.data?.ids ?? [])].sort()).toEqual(ids.sort());
  await endAll([slow, quick]);
});

test('of large messages a user has two at a time until they are sent, and other users have theirs', async () => {
  const own = await Promise.all(['a', 'b', 'c'].map((key) => follow(subscription(key))));
  const other = await follow(subscription('d', { user: 'bob' }));
  await asOwner((client) =>
    client.query(
      `insert into app_public.feature_flags (flag_key)
       select gen_random_uuid()::text from generate_series(1, 50)`,
    ),
  );
  const [first, second, third] = own.map(next);
  expect((await next(other))?.data?.ids.length).toBe(50);
  await Promise.all([first, second]);
  expect([...runs.keys()].sort()).toEqual(['a', 'b', 'd']);
  // Asked for the next, so this one is sent.
  const later = own[0] && next(own[0]);
  expect((await third)?.data?.ids.length).toBe(50);
  await endAll([...own, other]);
  expect(await later).toBeNull();
});

test('a client that is too slow gets what it missed in part, and no other does', async () => {
  const [slow, quick] = [await follow(subscription('same')), await follow(subscription('same'))];
  for (let round = 0; round < 3; round += 1) {
    await asOwner((client) =>
      client.query(
        `insert into app_public.feature_flags (flag_key)
         select gen_random_uuid()::text from generate_series(1, 200)`,
      ),
    );
    const got: string[] = [];
    while (got.length < 200) {
      const data = (await next(quick))?.data;
      expect(data?.truncated).toBe(false);
      got.push(...(data?.ids ?? []));
    }
    expect(new Set(got).size).toBe(200);
  }
  const { data } = (await next(slow)) ?? {};
  expect([data?.truncated, data?.ids.length]).toEqual([true, 500]);
  await endAll([slow, quick]);
});

test('a subscription none of whose rows changed costs no query, and many of others cost one', async () => {
  const queries: string[] = [];
  const reader = makeReader(pool);
  source = makeSubscriptionSource({
    turns: makeFairQueue({ slots: 2, perUser: 2 }),
    ...{ changes, planning: makePlanning(256), log },
    reader: {
      ...reader,
      query(settings, statement) {
        queries.push(statement.name ?? '');
        return reader.query(settings, statement);
      },
    },
  });
  const ofFlag = (flagKey: string) =>
    subscription(flagKey, {
      run: async (_rights, lookUp) => {
        const visible = await lookUp({ ...EVENTS, flagKey });
        return visible && { data: { ...visible } };
      },
    });
  const all = await Promise.all(Array.from({ length: 200 }, (_, n) => follow(ofFlag(`flag-${n}`))));
  expect(queries).toEqual(['recent_events']);
  const told = all.filter((_, n) => n === 7 || n === 150).map(next);
  await asOwner(async (client) => {
    await insertFlag(client, { flag_key: 'flag-7' });
    await insertFlag(client, { flag_key: 'none' });
    await insertFlag(client, { flag_key: 'flag-150' });
  });
  for (const each of await Promise.all(told)) expect(each?.data?.ids).toHaveLength(1);
  expect(new Set(queries.slice(1))).toEqual(new Set(['named_events']));
  expect(queries.length).toBeLessThanOrEqual(4);
  await endAll(all);
});

test('users have turns: one with many subscriptions keeps no other waiting', async () => {
  const done: string[] = [];
  const slowly = (user: string, n: number) =>
    subscription(`${user}-${n}`, {
      user,
      run: async (_rights, lookUp) => {
        const visible = await lookUp(EVENTS);
        if (visible === null) return null;
        await new Promise((resolve) => setImmediate(resolve));
        done.push(user);
        return { data: { ...visible } };
      },
    });
  const many = await Promise.all(
    Array.from({ length: 100 }, (_, n) => follow(slowly('mallory', n))),
  );
  const one = await follow(slowly('alice', 0));
  const told = [...many, one].map(next);
  await insert();
  await Promise.all(told);
  expect(done.indexOf('alice')).toBeLessThan(10);
  await endAll([...many, one]);
});

test('what is committed while a subscription begins is not missed', async () => {
  const witness = await follow(subscription('witness'));
  const late = subscription('late');
  const results = await follow({
    ...late,
    async run(rights, lookUp) {
      const result = await late.run(rights, lookUp);
      if (result === null) {
        await insert();
        await next(witness);
      }
      return result;
    },
  });
  expect((await next(results))?.data?.ids).toHaveLength(1);
  await endAll([witness, results]);
});

test('who leaves ends nobody else’s subscription, and is sent no more', async () => {
  const running = Promise.withResolvers<undefined>();
  const go = Promise.withResolvers<undefined>();
  const held = subscription('same');
  const run: SubscribedEntity['run'] = async (rights, lookUp) => {
    const result = await held.run(rights, lookUp);
    if (result !== null) {
      running.resolve(undefined);
      await go.promise;
    }
    return result;
  };
  // The one who leaves is the one who began the execution.
  const leaver = await follow({ ...held, run });
  const waiting = next(leaver);
  const stays = await follow({ ...held, run });
  const told = next(stays);
  await insert();
  await running.promise;
  await leaver.return();
  expect(source.size).toBe(1);
  go.resolve(undefined);
  expect(await waiting).toBe(null);
  expect((await told)?.data?.ids).toHaveLength(1);
  expect(runs.get('same')).toHaveLength(1);
  await insert();
  expect((await next(stays))?.data?.ids).toHaveLength(1);
  expect(await next(leaver)).toBe(null);
  await endAll([stays]);
});

test('who leaves while nothing happens is done at once', async () => {
  const results = await follow(subscription('same'));
  const waiting = next(results);
  await endAll([results]);
  expect(await waiting).toBe(null);
});

test('when rows can’t be looked up, all are told, and it ends for all', async () => {
  const alike = [await follow(subscription('same')), await follow(subscription('same'))];
  await asOwner((client) => client.query('revoke select on audit.events from halyard_admin'));
  try {
    await insert();
    for (const results of alike) {
      expect((await next(results))?.errors?.[0]?.extensions.code).toBe('internal_error');
      expect(await next(results)).toBe(null);
    }
    expect(source.size).toBe(0);
    expect(await source.follow({ ...subscription('same') }).catch(codeOf)).toBe('42501');
    expect(source.size).toBe(0);
  } finally {
    await asOwner((client) => client.query('grant select on audit.events to halyard_admin'));
  }
});

const codeOf = (error: unknown) => (error as { code?: string }).code;

test('a result with errors and data goes on, and one of errors alone is the last', async () => {
  const failing = subscription('failing');
  let data: { data?: null } = { data: null };
  const run: SubscribedEntity['run'] = async (rights, lookUp) => {
    const result = await failing.run(rights, lookUp);
    return result === null ? null : { errors: [], ...data };
  };
  const alike = [await follow({ ...failing, run }), await follow({ ...failing, run })];
  await insert();
  for (const results of alike) expect(await next(results)).toEqual({ errors: [], data: null });
  data = {};
  await insert();
  for (const results of alike) {
    expect(await next(results)).toEqual({ errors: [] });
    expect(await next(results)).toBe(null);
  }
  expect(source.size).toBe(0);
});

test('a lost connection ends it for all', async () => {
  const all = [await follow(subscription('same')), await follow(subscription('same'))];
  const told = all.map(next);
  await withClient(database.rootUrl, (client) =>
    client.query(
      `select pg_terminate_backend(pid) from pg_stat_activity
       where application_name = 'halyard-api-listener' and datname = current_database()`,
    ),
  );
  for (const each of await Promise.all(told))
    expect(each?.errors?.[0]?.extensions.code).toBe('database_unavailable');
  for (const results of all) expect(await next(results)).toBe(null);
  expect(source.size).toBe(0);
});

test('an operation that is refused keeps no queue', async () => {
  const run = () => Promise.resolve({ errors: [] });
  expect(await source.follow(subscription('refused', { run }))).toEqual({ errors: [] });
  expect(source.size).toBe(0);
});
