import type pg from 'pg';
import { expect, test } from 'vitest';
import type { SubscribedEntity } from '../../src/graphql/live/subscription_source.ts';
import { useDatabase, withClient } from '../support/database.ts';
import { insertFlag } from '../support/factory.ts';
import { next, useFeed } from '../support/feed.ts';

const database = useDatabase();
const live = useFeed(database);
const { subscription, follow, endAll } = live;
const asOwner = <T>(work: (client: pg.Client) => Promise<T>) => withClient(database.ownerUrl, work);
const insert = () => asOwner((client) => insertFlag(client));

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
  expect(live.feed.size).toBe(1);
  go.resolve(undefined);
  expect(await waiting).toBe(null);
  expect((await told)?.data?.ids).toHaveLength(1);
  expect(live.runs.get('same')).toHaveLength(1);
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
    expect(live.feed.size).toBe(0);
    expect(await live.feed.follow({ ...subscription('same') }).catch(codeOf)).toBe('42501');
    expect(live.feed.size).toBe(0);
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
  expect(live.feed.size).toBe(0);
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
  expect(live.feed.size).toBe(0);
});

test('an operation that is refused keeps no queue', async () => {
  const run = () => Promise.resolve({ errors: [] });
  expect(await live.feed.follow(subscription('refused', { run }))).toEqual({ errors: [] });
  expect(live.feed.size).toBe(0);
});
