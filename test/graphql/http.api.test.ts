import { hash } from 'node:crypto';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { gzipSync } from 'node:zlib';

import { getIntrospectionQuery } from 'postgraphile/graphql';
import { describe, expect, it, vi } from 'vitest';

import { startGraphql, useGraphql } from '../support/graphql.ts';
import type { TestApi } from '../support/graphql.ts';
import { useDatabase, withClient } from '../support/database.ts';
import { adminToken, refusedTokens, sign } from '../support/tokens.ts';

const database = useDatabase();
const api = useGraphql(database);

const QUERY = '{ featureFlags(first: 1) { nodes { id } } }';

async function raw(
  body: string | Buffer,
  headers: Record<string, string> = {},
  method = 'POST',
  to: TestApi = api(),
): Promise<{ status: number; code: string | undefined; headers: Headers }> {
  const response = await fetch(to.url, {
    method,
    headers: {
      'content-type': 'application/json',
      authorization: `Bearer ${adminToken()}`,
      ...headers,
    },
    ...(method === 'GET' || method === 'HEAD' ? {} : { body: new Uint8Array(Buffer.from(body)) }),
  });
  const text = await response.text();
  const json = (text === '' ? {} : JSON.parse(text)) as {
    errors?: { extensions: { code: string } }[];
  };
  return {
    status: response.status,
    code: json.errors?.[0]?.extensions.code,
    headers: response.headers,
  };
}

describe('tokens', () => {
  it('are required, with a challenge', async () => {
    const answer = await api().post(QUERY, {}, { token: null });
    expect(answer.status).toBe(401);
    expect(answer.errors?.[0]?.extensions.code).toBe('token_missing');
    expect(answer.headers.get('www-authenticate')).toBe('Bearer');
    expect(answer.headers.get('content-type')).toContain('application/graphql-response+json');
  });

  it.each(Object.entries(refusedTokens()))('are refused %s', async (_name, { token, code }) => {
    const answer = await api().post(QUERY, {}, { token });
    expect([answer.status, answer.errors?.[0]?.extensions.code]).toEqual([401, code]);
    expect(answer.headers.get('www-authenticate')).toContain('invalid_token');
  });

  it('without a role get 403', async () => {
    const answer = await api().post(QUERY, {}, { token: sign({ userId: 'nobody' }) });
    expect([answer.status, answer.errors?.[0]?.extensions.code]).toEqual([403, 'role_missing']);
  });

  it('are looked at before the body is', async () => {
    const answer = await raw('{'.repeat(50), { authorization: '' });
    expect([answer.status, answer.code]).toEqual([401, 'token_missing']);
  });
});

describe('bodies', () => {
  const ok = JSON.stringify({ query: QUERY });
  const cases: [string, string | Buffer, Record<string, string>, number, string][] = [
    ['invalid JSON', '{"query":', {}, 400, 'invalid_json'],
    ['a batch', `[${ok}]`, {}, 400, 'invalid_query'],
    ['a string', '"query"', {}, 400, 'invalid_query'],
    ['no query', '{}', {}, 400, 'invalid_query'],
    ['a query that is a number', '{"query": 1}', {}, 400, 'invalid_query'],
    ['variables that are an array', `{"query": "{a}", "variables": []}`, {}, 400, 'invalid_query'],
    ['1 MB', JSON.stringify({ query: ' '.repeat(1_000_000) }), {}, 413, 'body_too_large'],
    [
      'a form',
      'query={__typename}',
      { 'content-type': 'application/x-www-form-urlencoded' },
      415,
      'unsupported_media_type',
    ],
    ['plain text', ok, { 'content-type': 'text/plain' }, 415, 'unsupported_media_type'],
    [
      'GraphQL text',
      QUERY,
      { 'content-type': 'application/graphql' },
      415,
      'unsupported_media_type',
    ],
    [
      'bytes that are no UTF-8',
      Buffer.concat([Buffer.from('{"query":"#'), Buffer.of(0xff), Buffer.from('"}')]),
      {},
      400,
      'invalid_json',
    ],
    [
      'utf-7',
      ok,
      { 'content-type': 'application/json; charset=utf-7' },
      415,
      'unsupported_media_type',
    ],
    ['compression', gzipSync(ok), { 'content-encoding': 'gzip' }, 415, 'unsupported_media_type'],
    [
      'latin1',
      ok,
      { 'content-type': 'application/json; charset=latin1' },
      415,
      'unsupported_media_type',
    ],
  ];

  it.each(cases)('of %s are refused', async (_name, body, headers, status, code) => {
    const answer = await raw(body, headers);
    expect([answer.status, answer.code]).toEqual([status, code]);
  });

  it('are needed: GET is refused', async () => {
    const answer = await raw('', {}, 'GET');
    expect([answer.status, answer.code]).toEqual([405, 'method_not_allowed']);
    expect(answer.headers.get('allow')).toBe('POST');
  });

  it('are answered, where a client’s defaults send GET, with what to set', async () => {
    const query = encodeURIComponent('query { __typename }');
    const response = await fetch(`${api().url}?query=${query}&extensions=%7B%7D`);
    expect(response.status).toBe(405);
    const { errors } = (await response.json()) as { errors: { message: string }[] };
    expect(errors[0]?.message).toMatch(/POST/);
    expect(errors[0]?.message).toMatch(/preferGetMethod: false/);
  });
});

describe('documents', () => {
  it.each([
    ['a syntax error', '{ featureFlags {'],
    ['an unknown field', '{ flags { id } }'],
    ['an unknown mutation', 'mutation { deleteFeatureFlag(input: {}) { clientMutationId } }'],
    ['an empty document', ''],
    ['two operations and no name', 'query A { __typename } query B { __typename }'],
    [
      'an unknown field of a condition',
      '{ featureFlags(condition: { flagKy: "a" }) { totalCount } }',
    ],
    ['a subscription by HTTP', 'subscription { auditEventsAdded { truncated } }'],
  ])('with %s are invalid_query with status 400', async (_name, query) => {
    const answer = await api().post(query);
    expect(answer.status).toBe(400);
    expect(answer.errors?.[0]?.extensions.code).toBe('invalid_query');
    expect(answer.data).toBeUndefined();
  });

  it.each([
    [
      'the condition',
      'query ($value: FeatureFlagCondition) { featureFlags(condition: $value) { totalCount } }',
      { flagKy: 'a' },
    ],
    [
      'a list in a list',
      'query ($value: FeatureFlagScheduleCondition) { featureFlags { nodes { schedules(condition: $value) { totalCount } } } }',
      { flagID: null },
    ],
  ])(
    'with an unknown field of a condition in a variable are invalid_query: %s',
    async (_name, query, value) => {
      expect(await api().codeOf(query, { value })).toBe('invalid_query');
    },
  );

  it.each([
    ['featureFlagSchedules', 'status', 'pendign', 'pending, applied, failed, cancelled'],
    ['featureFlagSchedules', 'status', 'PENDING', 'pending, applied, failed, cancelled'],
    ['auditEvents', 'eventType', 'flag_schedule.aplied', 'of flag_schedule there are created'],
    ['auditEvents', 'level', 'warn', 'info, warning, error'],
  ])('of %s by a %s that there isn’t are refused: %s', async (field, name, value, hint) => {
    const literal = `{ ${field}(condition: { ${name}: "${value}" }) { nodes { id } } }`;
    const variable = `query ($value: String) { ${field}(condition: { ${name}: $value }) { nodes { id } } }`;
    for (const [query, variables] of [
      [literal, {}],
      [variable, { value }],
    ] as const) {
      const { errors, data } = await api().post(query, variables);
      expect([errors?.[0]?.extensions.code, data]).toEqual(['invalid_value', undefined]);
      expect(errors?.[0]?.message).toContain(hint);
    }
  });

  it.each([
    ['featureFlagSchedules', 'status'],
    ['auditEvents', 'eventType'],
    ['auditEvents', 'level'],
  ])('of %s by a %s of null are refused, and of none are not', async (field, name) => {
    const query = `query ($value: String) { ${field}(condition: { ${name}: $value }) { nodes { id } } }`;
    expect(await api().codeOf(query, { value: null })).toBe('invalid_value');
    expect((await api().post(query, {})).errors).toBeUndefined();
  });

  it('get status 200 for the same under plain JSON', async () => {
    const answer = await api().post('{ flags }', {}, { headers: { accept: 'application/json' } });
    expect(answer.status).toBe(200);
    expect(answer.headers.get('content-type')).toContain('application/json');
    expect(answer.errors?.[0]?.extensions.code).toBe('invalid_query');
  });

  it('run the operation that is named', async () => {
    const answer = await api().post(
      'query A { a: __typename } query B { b: __typename }',
      {},
      { operationName: 'B' },
    );
    expect(answer.data).toEqual({ b: 'Query' });
  });

  it('get 200 and partial data when one field fails', async () => {
    const id = 'b3f7a1de-0000-4000-8000-000000000000';
    const answer = await api().post(
      `mutation { a: cancelFlagSchedule(input: { id: "${id}" }) { clientMutationId } }`,
    );
    expect(answer.status).toBe(200);
    expect(answer.data).toEqual({ a: null });
    expect(answer.errors?.[0]).toMatchObject({
      path: ['a'],
      extensions: { code: 'schedule_not_found' },
    });
  });
});

const NINE_FIELDS =
  'id status scheduledAt appliedAt attempts maxAttempts createdAt updatedAt createdBy';
const EVERY = 'id flagKey environment enabled rolloutPercentage description createdAt updatedAt';

/** A document that no cache has seen, and that takes some 50 ms to plan. */
const unseen = (n: number) =>
  `{ ${Array.from({ length: 6 }, (_, i) => `x${n}_${i}: featureFlags(first: 1) { nodes { schedules(first: 1) { nodes { flag { schedules(first: 1) { nodes { id } } } } } } }`).join(' ')} }`;

describe('planning', () => {
  it('is handed out by user: many unseen documents of one hold up no other', async () => {
    let planned = 0;
    const token = sign({ role: 'viewer', userId: 'vera' });
    const flood = Array.from({ length: 24 }, (_, n) =>
      api()
        .post(unseen(n), {}, { token })
        .finally(() => (planned += 1)),
    );
    await api().data(unseen(100), {}, sign({ role: 'viewer', userId: 'walter' }));
    // His came last, and its turn second or third.
    expect(planned).toBeLessThan(12);
    for (const { errors } of await Promise.all(flood)) expect(errors).toBeUndefined();
  });

  it('is waited for by so many operations of a user, and the next is refused', async () => {
    const limited = await startGraphql(database, { queuePerUser: 3 });
    try {
      const flood = Array.from({ length: 12 }, (_, n) => limited.post(unseen(n)));
      const bob = limited.post(QUERY, {}, { token: sign({ role: 'viewer', userId: 'bob' }) });
      const refused = (await Promise.all(flood)).filter(({ errors }) => errors !== undefined);
      expect(refused.length).toBeGreaterThan(0);
      for (const { status, errors, data, headers } of refused) {
        expect([status, errors?.[0]?.extensions.code]).toEqual([429, 'too_many_requests']);
        expect([data, headers.get('retry-after')]).toEqual([undefined, '1']);
      }
      expect((await bob).errors).toBeUndefined();
    } finally {
      await limited.close();
    }
  });
});

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

describe('in production', () => {
  const INTROSPECTION = '{ __schema { queryType { name } } }';

  it('there is no introspection, no hint at names and no IDE', async () => {
    const production = await startGraphql(database, { nodeEnv: 'production' });
    try {
      const { errors: refused } = await production.post(INTROSPECTION);
      expect(refused?.[0]?.extensions.code).toBe('invalid_query');
      expect(await production.data('{ __typename }')).toEqual({ __typename: 'Query' });
      const { errors } = await production.post('{ featureFlag { id } featureFlagz { id } }');
      expect(JSON.stringify(errors)).not.toMatch(/did you mean/i);
      expect((await fetch(production.url.replace('/graphql', '/ruru'))).status).toBe(404);
    } finally {
      await production.close();
    }
  });

  it('and in development all three', async () => {
    const development = await startGraphql(database, { nodeEnv: 'development' });
    try {
      // The one that IDEs send, which is the deepest that must pass.
      expect(await development.data(getIntrospectionQuery())).toBeDefined();
      const { errors } = await development.post('{ featureFlagz { id } }');
      expect(JSON.stringify(errors)).toMatch(/did you mean/i);
      const ruru = await fetch(development.url.replace('/graphql', '/ruru'));
      expect([ruru.status, ruru.headers.get('content-type')]).toEqual([
        200,
        expect.stringContaining('html'),
      ]);
      // Of a page that is given a token: nothing of other servers, in no other page's frame.
      const policy = ruru.headers.get('content-security-policy') ?? '';
      expect(policy).toMatch(/default-src 'none'; script-src 'self'( 'sha256-[\w+/]+=*'){4}; /);
      // As a browser hashes them, of what it got.
      for (const [, script = ''] of (await ruru.text()).matchAll(/<script[^>]*>([^]*?)<\/script>/g))
        expect(policy).toContain(`'sha256-${hash('sha256', script, 'base64')}'`);
      expect(policy).toContain("connect-src 'self'; ");
      expect(policy).toContain("frame-ancestors 'none'");
    } finally {
      await development.close();
    }
  });
});

describe('errors that are nobody’s business', () => {
  it('are masked, and logged with the request’s id and not on the console', async () => {
    const console_ = [
      vi.spyOn(console, 'error'),
      vi.spyOn(console, 'warn'),
      vi.spyOn(console, 'log'),
    ];
    await withClient(database.ownerUrl, (client) =>
      client.query(`create function app_private.tg_broken() returns trigger language plpgsql as
        $$ begin raise exception 'the secret of the trigger' using errcode = 'XX123'; end $$;
        grant execute on function app_private.tg_broken() to public;
        create trigger broken before update on app_public.feature_flags for each row
          when (new.description = 'broken') execute function app_private.tg_broken();`),
    );
    const { createFeatureFlag } = await api().data<{
      createFeatureFlag: { featureFlag: { id: string } };
    }>(
      'mutation { createFeatureFlag(input: { featureFlag: { flagKey: "broken" } }) { featureFlag { id } } }',
    );
    const answer = await api().post(
      `mutation { updateFeatureFlag(input: { id: "${createFeatureFlag.featureFlag.id}", patch: { description: "broken" } }) { clientMutationId } }`,
      {},
      { headers: { 'x-request-id': 'a-masked-request' } },
    );
    expect(answer.errors?.[0]?.extensions.code).toBe('internal_error');
    expect(JSON.stringify(answer.errors)).not.toContain('secret');
    const line = api().lines.find(({ clientRequestId }) => clientRequestId === 'a-masked-request');
    expect(line).toMatchObject({ level: 'error', err: { code: 'XX123' } });
    for (const spy of console_) expect(spy).not.toHaveBeenCalled();
  });
});

/** Ends the one session that waits for a lock, once there is one. */
async function endWaitingSession(): Promise<void> {
  await withClient(database.rootUrl, (root) =>
    vi.waitFor(async () => {
      const ended = await root.query(
        `select pg_terminate_backend(pid) from pg_stat_activity
         where datname = current_database() and wait_event_type = 'Lock'`,
      );
      expect(ended.rowCount).toBe(1);
    }, 5_000),
  );
}

describe('a connection that is lost', () => {
  it('is database_unavailable, and the next request works', async () => {
    await withClient(database.ownerUrl, async (owner) => {
      const { rows } = await owner.query<{ id: string }>(
        `insert into app_public.feature_flags (flag_key) values ('lost') returning id`,
      );
      await owner.query('begin');
      await owner.query('select from app_public.feature_flags where id = $1 for update', [
        rows[0]?.id,
      ]);
      const update = `mutation { updateFeatureFlag(input: { id: "${rows[0]?.id}", patch: { enabled: true } }) { clientMutationId } }`;
      const code = api().codeOf(update);
      await endWaitingSession();
      expect(await code).toBe('database_unavailable');
      await owner.query('rollback');
      await api().data(update);
    });
  });
});

describe('a connection that is lost while it commits', () => {
  it('is database_unavailable', async () => {
    await withClient(database.rootUrl, async (root) => {
      await root.query(`
        create function app_private.hang() returns trigger language plpgsql security definer
          as $$ begin perform pg_advisory_xact_lock(77); return null; end $$;
        create constraint trigger hang after insert on app_public.feature_flags
          deferrable initially deferred for each row execute function app_private.hang();
        select pg_advisory_lock(77)`);
      const code = api().codeOf(
        'mutation { createFeatureFlag(input: { featureFlag: { flagKey: "hangs" } }) { clientMutationId } }',
      );
      await endWaitingSession();
      expect(await code).toBe('database_unavailable');
      await root.query(
        'drop trigger hang on app_public.feature_flags; drop function app_private.hang()',
      );
    });
  });
});

describe('without a database', () => {
  it('answers database_unavailable, and works once it is there', async () => {
    const url = new URL(database.authenticatorUrl);
    url.pathname = '/not_there';
    const down = await startGraphql({ authenticatorUrl: url.href });
    try {
      const answer = await down.post(QUERY);
      expect([answer.status, answer.errors?.[0]?.extensions.code]).toEqual([
        503,
        'database_unavailable',
      ]);
      expect(answer.headers.get('retry-after')).toBe('1');
      expect(down.graphql.healthy()).toBe(false);
    } finally {
      await down.close();
    }
  });
});
