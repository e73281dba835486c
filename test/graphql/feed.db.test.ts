import type pg from 'pg';
import { expect, test } from 'vitest';
import { useDatabase, withClient } from '../support/database.ts';
import { insertFlag } from '../support/factory.ts';
import { EVENTS, next, useFeed } from '../support/feed.ts';

const database = useDatabase();
const live = useFeed(database);
const { subscription, follow, endAll } = live;
const asOwner = <T>(work: (client: pg.Client) => Promise<T>) => withClient(database.ownerUrl, work);
const insert = () => asOwner((client) => insertFlag(client));

test('who follows the same shares one execution of each hint, and others have their own', async () => {
  const alike = await Promise.all(Array.from({ length: 20 }, () => follow(subscription('alike'))));
  const other = await follow(subscription('other'));
  expect(live.feed.size).toBe(21);
  for (let round = 1; round <= 2; round += 1) {
    await insert();
    const told = await Promise.all([...alike, other].map(next));
    for (const each of told) expect(each).toEqual(told[0]);
    expect(live.runs.get('alike')).toHaveLength(round);
    expect(live.runs.get('other')).toHaveLength(round);
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
  expect([...live.runs.keys()].sort()).toEqual(['a', 'b', 'd']);
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
  live.begin((reader) => ({
    ...reader,
    query(settings, statement) {
      queries.push(statement.name ?? '');
      return reader.query(settings, statement);
    },
  }));
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

test('what changes while a subscription begins reaches it, and once', async () => {
  const witness = await follow(subscription('witness'));
  const late = subscription('late');
  const beginning = follow({
    ...late,
    async run(rights, lookUp) {
      if (!live.runs.has('late')) {
        live.runs.set('late', []);
        await insert();
        // Now the hint has come, and this one has no place yet.
        expect((await next(witness))?.data?.ids).toHaveLength(1);
      }
      return late.run(rights, lookUp);
    },
  });
  const results = await beginning;
  expect((await next(results))?.data).toMatchObject({
    truncated: false,
    ids: [expect.any(String)],
  });
  await insert();
  expect((await next(results))?.data?.ids).toHaveLength(1);
  await endAll([witness, results]);
});
