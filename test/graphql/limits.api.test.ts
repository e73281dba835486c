import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { describe, expect, it } from 'vitest';
import { useGraphql } from '../support/graphql.ts';
import { useDatabase, withClient } from '../support/database.ts';
import { adminToken, sign } from '../support/tokens.ts';
import { sendRaw } from '../support/raw_graphql.ts';

const database = useDatabase();
const api = useGraphql(database);

const QUERY = '{ featureFlags(first: 1) { nodes { id } } }';

const raw = (
  body: string | Buffer,
  headers?: Record<string, string>,
  method?: string,
  to = api(),
) => sendRaw(to, body, headers, method);

const NINE_FIELDS =
  'id status scheduledAt appliedAt attempts maxAttempts createdAt updatedAt createdBy';
const EVERY = 'id flagKey environment enabled rolloutPercentage description createdAt updatedAt';

describe('large answers', () => {
  it('are two at a time for a user, until they have gone out', async () => {
    await withClient(database.ownerUrl, (client) =>
      client.query(`with flags as (
          insert into app_public.feature_flags (flag_key, environment, description)
          select 'large-' || n, 'large', repeat('€', 2000) from generate_series(1, 90) n returning id)
        insert into app_public.feature_flag_schedules (flag_id, scheduled_at, updates)
        select id, now() + interval '1 day', '{"enabled": true}' from flags, generate_series(1, 25)`),
    );
    // 13 MB, more than what lies between the server and a client holds.
    const query =
      '{ featureFlags(first: 90, condition: { environment: "large" }) { nodes { schedules(first: 25) { nodes { flag { description } } } } } }';
    const unread = await Promise.all([0, 1].map(() => askUnread(query)));
    let answered = false;
    const third = api()
      .post(query)
      .finally(() => (answered = true));
    // Small answers of the same user, and large ones of others, wait for none of them.
    await api().data(QUERY);
    await api().data(query, {}, sign({ role: 'viewer', userId: 'bob' }));
    expect(answered).toBe(false);
    unread[0]?.destroy();
    expect((await third).errors).toBeUndefined();
    unread[1]?.destroy();
  });
});

/** Asks, and reads no more than the beginning of the answer. */
async function askUnread(query: string): Promise<Socket> {
  const { hostname, port } = new URL(api().url);
  const socket = connect(Number(port), hostname).on('error', () => undefined);
  const body = JSON.stringify({ query });
  socket.write(
    `POST /graphql HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${adminToken()}\r\n` +
      `Content-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  );
  await once(socket, 'readable');
  return socket;
}

describe('limits', () => {
  const pages = (...firsts: number[]) =>
    firsts.length === 3
      ? `{ featureFlags(first: ${firsts[0]}) { nodes { schedules(first: ${firsts[1]}) { nodes { flag { schedules(first: ${firsts[2]}) { nodes { id } } } } } } } }`
      : `{ featureFlags(first: ${firsts[0]}) { nodes { schedules(first: ${firsts[1]}) { nodes { id } } } } }`;
  const repeat = (count: number, part: (n: number) => string) =>
    Array.from({ length: count }, (_, n) => part(n)).join(' ');
  /** A list of one flag for each number, with so many lists in it; few rows, so that no other limit refuses it. */
  const lists = (...inner: number[]) =>
    `{ ${inner.map((count, n) => `a${n}: featureFlags(first: 1) { nodes { ${repeat(count, (m) => `b${m}: schedules(first: 1) { nodes { id } }`)} } }`).join(' ')} }`;
  const nested = (depth: number): string =>
    depth === 0 ? 'id' : `schedules { nodes { flag { ${nested(depth - 1)} } } }`;

  it.each([
    ['a page of 101', '{ featureFlags(first: 101) { nodes { id } } }', 'invalid_value'],
    ['a page of -1', '{ featureFlags(first: -1) { nodes { id } } }', 'invalid_value'],
    ['a page of null', '{ featureFlags(first: null) { nodes { id } } }', 'invalid_value'],
    [
      'an order of 6 columns',
      `{ featureFlags(orderBy: [${'FLAG_KEY_ASC '.repeat(6)}]) { nodes { id } } }`,
      'invalid_value',
    ],
    ['an inner page of 101', pages(1, 101), 'invalid_value'],
    ['pages of 10,100 rows', pages(100, 100), 'invalid_query'],
    ['pages in pages in pages', pages(30, 30, 30), 'invalid_query'],
    ['a depth of 18', `{ featureFlags { nodes { ${nested(5)} } } }`, 'invalid_query'],
    [
      '21 fields at the root',
      `{ ${Array.from({ length: 21 }, (_, n) => `a${n}: __typename`).join(' ')} }`,
      'invalid_query',
    ],
    ['26 lists', lists(12, 12), 'invalid_query'],
    [
      '101 objects',
      `{ featureFlagSchedules { nodes { ${repeat(99, (n) => `a${n}: flag { id }`)} } } }`,
      'invalid_query',
    ],
    [
      'an answer of 150,000 values',
      `{ featureFlags(first: 100) { nodes { schedules(first: 99) { nodes { ${repeat(15, (n) => `a${n}: id`)} } } } } }`,
      'invalid_query',
    ],
    [
      'an answer of 10,000 long texts',
      '{ featureFlags(first: 100) { nodes { schedules(first: 99) { nodes { flag { description } } } } } }',
      'invalid_query',
    ],
    [
      'an answer of long names',
      `{ featureFlags(first: 100) { nodes { schedules(first: 9) { nodes { ${'a'.repeat(19_000)}: id } } } } }`,
      'invalid_query',
    ],
    ['20,001 characters', `{ __typename ${' '.repeat(20_000)} }`, 'invalid_query'],
    ['2,001 tokens', `{ ${'__typename '.repeat(2_001)} }`, 'invalid_query'],
    ['offset', '{ featureFlags(offset: 5) { nodes { id } } }', 'invalid_query'],
    ['last', '{ featureFlags(last: 5) { nodes { id } } }', 'invalid_query'],
  ])('refuse %s', async (_name, query, code) => {
    const { errors } = await api().post(query);
    expect(errors?.[0]?.extensions.code).toBe(code);
  });

  it.each([
    ['25 lists', lists(12, 11)],
    ['pages of 9,900 rows, with nine fields', pages(90, 99).replace(' id ', ` ${NINE_FIELDS} `)],
    [
      'a page of every field that a flag has',
      `{ featureFlags(first: 100) { nodes { ${EVERY} } } }`,
    ],
  ])('let through %s', async (_name, query) => {
    await api().data(query);
  });

  it('hold for variables, given, absent and null', async () => {
    const query = 'query ($n: Int) { featureFlags(first: $n) { nodes { id } } }';
    expect(await api().codeOf(query, { n: 101 })).toBe('invalid_value');
    expect(await api().codeOf(query, { n: null })).toBe('invalid_value');
    await api().data(query, {});
    await api().data(query, { n: 100 });
    await api().data(query, { n: 0 });
  });

  it.each(['__proto__', 'constructor'])('hold for a variable called %s', async (name) => {
    const query = `query ($${name}: Int!) { featureFlags(first: $${name}) { nodes { id } } }`;
    const send = (value: number) => raw(`{"query":"${query}","variables":{"${name}":${value}}}`);
    expect(await send(101)).toMatchObject({ code: 'invalid_value' });
    expect(await send(100)).toMatchObject({ code: undefined });
  });

  it('hold for variables of any depth', async () => {
    const query =
      'query ($by: [FeatureFlagOrderBy!]) { featureFlags(orderBy: $by) { nodes { id } } }';
    const deep = '['.repeat(30_000) + ']'.repeat(30_000);
    const answer = await raw(`{"query":"${query}","variables":{"by":${deep}}}`);
    expect([answer.status, answer.code]).toEqual([400, 'invalid_value']);
  });

  it('stop fragments that multiply', async () => {
    const fragments = Array.from(
      { length: 20 },
      (_, n) => `fragment F${n} on FeatureFlag { a: id ...F${n + 1} b: id ...F${n + 1} }`,
    ).join(' ');
    const query = `{ featureFlags { nodes { ...F0 } } } ${fragments} fragment F20 on FeatureFlag { id }`;
    expect(await api().codeOf(query)).toBe('invalid_query');
  });

  it('give 50 rows when no size is asked for', async () => {
    await withClient(database.ownerUrl, (client) =>
      client.query(
        `insert into app_public.feature_flags (flag_key, environment) select 'many-' || n, 'many' from generate_series(1, 51) n`,
      ),
    );
    const { featureFlags } = await api().data<{ featureFlags: { nodes: unknown[] } }>(
      '{ featureFlags(condition: { environment: "many" }) { nodes { id } } }',
    );
    expect(featureFlags.nodes).toHaveLength(50);
  });
});
