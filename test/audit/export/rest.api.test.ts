import { createHash } from 'node:crypto';

import { auditEventSchema } from 'halyard/schemas';
import { beforeAll, describe, expect, test } from 'vitest';

import { useApi } from '../../support/api.ts';
import { useDatabase, withClient } from '../../support/database.ts';
import { addEvents, linesOf, number } from '../../support/export.ts';
import type { ExportedEvent } from '../../support/export.ts';
import { adminToken, auditorToken, sign, viewerToken } from '../../support/tokens.ts';

const database = useDatabase();
const api = useApi(database);

const PATH = '/api/admin/audit/events';
const NDJSON = { accept: 'application/x-ndjson' };
const CSV = { accept: 'text/csv' };
const DAY = '2026-11-2';

const events: ExportedEvent[] = [
  { at: `${DAY}0T10:00:00Z`, flag: 'one', userId: 'alice', email: 'alice@example.com' },
  { at: `${DAY}0T11:00:00.000001Z`, flag: 'two', environment: 'staging', userId: 'bob' },
  { at: `${DAY}1T10:00:00Z`, flag: 'one', type: 'flag_schedule.applied', actorKind: 'system' },
  { at: `${DAY}2T10:00:00Z`, flag: 'one', actorKind: 'database', databaseUser: 'dba_dora' },
  { at: `${DAY}0T09:00:00Z`, flag: '=cmd', type: 'feature_flag.updated', userId: '@evil,"x"' },
  { at: `${DAY}3T00:00:00Z`, flag: 'late', type: 'flag_schedule.failed', userId: 'dba_dora' },
];

beforeAll(async () => {
  await withClient(database.ownerUrl, (client) => addEvents(client, events));
});

/** An answer of any kind, read whole. */
async function stream(path: string, token: string, headers: Record<string, string>) {
  const response = await fetch(api.url + path, {
    headers: { authorization: `Bearer ${token}`, ...headers },
  });
  return { status: response.status, headers: response.headers, text: await response.text() };
}

/** What an address answers as NDJSON, without the exports that this file has recorded itself. */
async function read(query = '', token = auditorToken()) {
  const answer = await stream(`${PATH}?until=${events.length}&${query}`, token, NDJSON);
  expect(answer.status, answer.text).toBe(200);
  return linesOf(answer.text).map(({ seq }) => seq);
}

describe('filters', () => {
  test.each([
    ['', [1, 2, 3, 4, 5, 6]],
    ['flag=one', [1, 3, 4]],
    ['flag=none', []],
    ['environment=staging', [2]],
    ['type=flag_schedule.applied', [3]],
    ['type=flag_schedule.applied&type=feature_flag.updated', [3, 5]],
    ['type=flag_schedule.applied,feature_flag.updated', [3, 5]],
    ['actor=alice', [1]],
    ['actor=alice@example.com', [1]],
    ['actor=system', [3]],
    ['actor=dba_dora', [4, 6]],
    ['actor=halyard_owner', []],
    [`from=${DAY}1T10:00:00Z`, [3, 4, 6]],
    [`from=${DAY}1T11:00:00%2B01:00`, [3, 4, 6]],
    [`to=${DAY}1T10:00:00Z`, [1, 2, 5]],
    [`from=${DAY}0T11:00:00.000001Z&to=${DAY}0T11:00:00.000002Z`, [2]],
    [`from=${DAY}0T11:00:00.000002Z&to=${DAY}1T09:59:59Z`, []],
    ['after=4', [5, 6]],
    ['after=4&flag=one', []],
    ['after=999999', []],
    ['limit=2', [1, 2]],
    ['limit=1&flag=one&after=1', [3]],
    ['flag=one&actor=system&type=flag_schedule.applied&environment=production', [3]],
  ])('%s', async (query, seqs) => {
    expect(await read(query)).toEqual(seqs);
    expect(await read(`${query}&order=asc`)).toEqual(seqs);
    if (query.includes('limit')) return;
    expect(await read(`${query}&order=desc`)).toEqual(seqs.toReversed());
  });

  test.each([
    ['limit=2', [6, 5]],
    ['limit=1&flag=one', [4]],
    ['limit=2&flag=one&after=1', [4, 3]],
    ['limit=9&actor=dba_dora', [6, 4]],
  ])('%s, the newest first', async (query, seqs) => {
    expect(await read(`${query}&order=desc`)).toEqual(seqs);
  });

  test.each([
    ['from=yesterday', 'from'],
    ['to=2026-11-20', 'to'],
    [`from=${DAY}1T09:00:00Z&to=${DAY}0T09:00:00Z`, 'to'],
    [`from=${DAY}1T09:00:00Z&to=${DAY}1T10:00:00%2B01:00`, 'to'],
    ['flag=', 'flag'],
    ['flag=a%00', 'flag'],
    ['environment=a/b', 'environment'],
    ['actor=', 'actor'],
    ['actor=a%00', 'actor'],
    ['type=', 'type.0'],
    ['type=flag_schedule.applied,', 'type.1'],
    ['type=flag_schedule.aplied', 'type.0'],
    ['typ=flag_schedule.applied', ''],
    [`type=${'audit.gap,'.repeat(20)}audit.gap`, 'type'],
    ['after=-1', 'after'],
    ['after=1e3', 'after'],
    [`after=${'9'.repeat(20)}`, 'after'],
    ['limit=0', 'limit'],
    ['limit=many', 'limit'],
    ['follow=yes', 'follow'],
    ['order=newest', 'order'],
    ['order=asc&order=desc', 'order'],
    ['flag=a&flag=b', 'flag'],
    ['colour=red', ''],
  ])('%s is refused as JSON and as NDJSON', async (query, path) => {
    for (const headers of [{}, NDJSON]) {
      const answer = await api.call(`GET ${PATH}?${query}`, { token: auditorToken(), headers });
      expect([answer.status, answer.body.code]).toEqual([400, 'invalid_request']);
      expect(answer.body.errors?.[0]?.path).toBe(path);
    }
  });

  test('a page of JSON has a limit and doesn’t follow; what follows has no end', async () => {
    const token = auditorToken();
    expect((await api.call(`GET ${PATH}?limit=1000`, { token })).status).toBe(200);
    expect((await api.call(`GET ${PATH}?limit=1001`, { token })).status).toBe(400);
    expect((await api.call(`GET ${PATH}?follow=true`, { token })).status).toBe(400);
    expect((await api.call(`GET ${PATH}?follow=false`, { token })).status).toBe(200);
    const both = await api.call(`GET ${PATH}?follow=true&until=5`, { token, headers: NDJSON });
    expect(both.status).toBe(400);
    const backwards = `GET ${PATH}?follow=true&order=desc`;
    const { status, body } = await api.call(backwards, { token, headers: NDJSON });
    expect([status, body.code, body.errors?.[0]?.path]).toEqual([400, 'invalid_request', 'follow']);
  });
});

describe('pages of JSON', () => {
  /** The numbers of all pages from this address on, while events are numbered between them. */
  async function readPages(path: string, limit: number): Promise<unknown[]> {
    const seqs: unknown[] = [];
    let next: string | undefined = path;
    for (let pages = 0; next !== undefined; pages++) {
      expect(pages).toBeLessThan(20);
      const answer = await api.call(`GET ${next}`, { token: adminToken() });
      expect(answer.headers.get('content-type')).toBe('application/json; charset=utf-8');
      const page = answer.body as unknown as { seq: number }[];
      expect(page.length).toBeLessThanOrEqual(limit);
      seqs.push(...page.map(({ seq }) => seq));
      next = /^<([^>]+)>; rel="next"$/.exec(answer.headers.get('link') ?? '')?.[1];
      // Each page is an export and so an event, which the pages behind it must not run after.
      await withClient(database.ownerUrl, number);
    }
    return seqs;
  }

  test.each([1, 2, 4, 6, 100])('of %i have each event once and come to an end', async (limit) => {
    const path = `${PATH}?to=${DAY}4T00:00:00Z&limit=${limit}`;
    expect(await readPages(path, limit)).toEqual([1, 2, 3, 4, 5, 6]);
    expect(await readPages(`${path}&order=asc`, limit)).toEqual([1, 2, 3, 4, 5, 6]);
    expect(await readPages(`${path}&order=desc`, limit)).toEqual([6, 5, 4, 3, 2, 1]);
    expect(await readPages(`${path}&order=desc&after=2&until=5`, limit)).toEqual([5, 4, 3]);
  });

  test('begin at the newest event with order=desc', async () => {
    await withClient(database.ownerUrl, number);
    const newest = await withClient(database.ownerUrl, async (client) => {
      const { rows } = await client.query<{ last: string }>('select audit.last_seq() as last');
      return Number(rows[0]?.last);
    });
    const token = adminToken();
    const answer = await api.call(`GET ${PATH}?order=desc&limit=1`, { token });
    expect(answer.body as unknown).toMatchObject([{ seq: newest }]);
    expect(answer.headers.get('link')).toContain(`until=${newest - 1}`);
  });

  test('have the documented shape, and the text whose hash is the leaf', async () => {
    const answer = await api.call(`GET ${PATH}?limit=6`, { token: auditorToken() });
    const page = auditEventSchema.array().parse(answer.body);
    expect(page).toHaveLength(6);
    expect(page[1]).toMatchObject({
      occurred_at: `${DAY}0T11:00:00.000001Z`,
      flag_key: 'two',
      environment: 'staging',
      admin_user_id: 'bob',
    });
    const leaves = await withClient(database.ownerUrl, async (client) => {
      const { rows } = await client.query<{ leaf: string }>(
        `select encode(leaf, 'hex') as leaf from audit.ledger order by seq limit 6`,
      );
      return rows.map(({ leaf }) => leaf);
    });
    const hash = (text: string) => createHash('sha256').update(`\0${text}`).digest('hex');
    expect(page.map(({ message }) => hash(message))).toEqual(leaves);
  });

  test('have the columns of the table, but for what is internal', async () => {
    const columns = await withClient(database.ownerUrl, async (client) => {
      const { rows } = await client.query<{ name: string }>(
        `select column_name::text as name from information_schema.columns
         where table_schema = 'audit' and table_name = 'events'`,
      );
      return rows.map(({ name }) => name);
    });
    expect(new Set([...Object.keys(auditEventSchema.shape), 'revision', 'payload'])).toEqual(
      new Set([...columns, 'seq', 'message']),
    );
  });
});

describe('kinds of answer', () => {
  test.each([
    [undefined, 'application/json; charset=utf-8'],
    ['*/*', 'application/json; charset=utf-8'],
    ['application/json', 'application/json; charset=utf-8'],
    ['application/x-ndjson', 'application/x-ndjson; charset=utf-8'],
    ['text/csv', 'text/csv; charset=utf-8; header=present'],
    ['text/*', 'text/csv; charset=utf-8; header=present'],
    ['application/json;q=0.5, text/csv', 'text/csv; charset=utf-8; header=present'],
  ])('Accept: %s gets %s', async (accept, type) => {
    const answer = await stream(PATH, auditorToken(), accept === undefined ? {} : { accept });
    expect([answer.status, answer.headers.get('content-type')]).toEqual([200, type]);
    expect(answer.headers.get('vary')).toContain('Accept');
    expect(answer.headers.get('cache-control')).toBe('no-store');
  });

  test('others are refused, and nothing is recorded', async () => {
    const before = await recorded();
    const answer = await api.call(`GET ${PATH}`, {
      token: auditorToken(),
      headers: { accept: 'application/xml' },
    });
    expect([answer.status, answer.body.code]).toEqual([406, 'not_acceptable']);
    expect(await recorded()).toEqual(before);
  });

  test('CSV has a head, and no cell that a spreadsheet would run', async () => {
    const { text } = await stream(`${PATH}?after=4&until=5`, auditorToken(), CSV);
    const [head, line, end, ...others] = text.split('\r\n');
    expect(head).toMatch(/^seq,id,occurred_at,/);
    expect(line).toMatch(
      /^5,[^,]+,2026-11-20T09:00:00\.000000Z,feature_flag\.updated,info,,'=cmd,/,
    );
    expect(line).toContain(`,"'@evil,""x""",`);
    expect([end, others]).toEqual(['', []]);
  });

  test('HEAD answers as GET does, without a body and without a record', async () => {
    const before = await recorded();
    for (const headers of [{}, NDJSON, CSV]) {
      const answer = await api.call(`HEAD ${PATH}?follow=false`, {
        token: auditorToken(),
        headers,
      });
      expect([answer.status, answer.text]).toEqual([200, '']);
    }
    const bad = await api.call(`HEAD ${PATH}?limit=0`, { token: auditorToken() });
    expect(bad.status).toBe(400);
    expect(await recorded()).toEqual(before);
  });

  test('the address has no other methods', async () => {
    const answer = await api.call(`POST ${PATH}`, { token: auditorToken() });
    expect([answer.status, answer.headers.get('allow')]).toEqual([405, 'GET, HEAD, OPTIONS']);
  });
});

describe('who reads', () => {
  test('an admin and an auditor read all, those who are limited their environments', async () => {
    for (const token of [adminToken, auditorToken]) {
      expect(await read('', token())).toEqual([1, 2, 3, 4, 5, 6]);
      expect(await read('', token({ environments: ['staging'] }))).toEqual([2]);
      expect(await read('flag=one', token({ environments: ['staging'] }))).toEqual([]);
      expect(await read('', token({ environments: [] }))).toEqual([]);
      const limited = token({ environments: ['staging'] });
      const answer = await api.call(`GET ${PATH}?limit=1`, { token: limited });
      expect(answer.body as unknown).toMatchObject([{ seq: 2 }]);
    }
  });

  test.each([
    ['a viewer', viewerToken(), 403, 'forbidden'],
    ['a token without a role', sign({ userId: 'x' }), 403, 'role_missing'],
    ['nobody', undefined, 401, 'token_missing'],
  ])('%s is refused, and nothing is recorded', async (_, token, status, code) => {
    const before = await recorded();
    for (const headers of [{}, NDJSON, CSV]) {
      const answer = await api.call(`GET ${PATH}`, { token, headers });
      expect([answer.status, answer.body.code]).toEqual([status, code]);
    }
    expect(await recorded()).toEqual(before);
  });
});

/** The exports in the trail. */
async function recorded() {
  return withClient(database.ownerUrl, async (client) => {
    const { rows } = await client.query<Record<string, unknown>>(
      `select id, admin_user_id, client_request_id, environment, metadata from audit.events
       where event_type = 'audit.exported' order by occurred_at`,
    );
    return rows;
  });
}

test('each export is in the trail, with what was asked for', async () => {
  const known = new Set((await recorded()).map(({ id }) => id));
  const ask = (query: string, accept: string, id: string) =>
    stream(PATH + query, auditorToken(), { accept, 'x-request-id': id });
  await ask('?flag=one&actor=alice&limit=5', 'application/json', 'export-1');
  await ask(
    `?type=audit.gap,setting.changed&from=${DAY}0T00:00:00Z&after=3`,
    'text/csv',
    'export-2',
  );
  const added = (await recorded()).filter(({ id }) => !known.has(id));
  const who = { adminUserId: 'olga', adminEmail: 'olga@example.com', follow: false };
  expect(added).toMatchObject([
    {
      client_request_id: 'export-1',
      environment: null,
      admin_user_id: 'olga',
      metadata: { ...who, format: 'json', filters: { flag: 'one', actor: 'alice', limit: 5 } },
    },
    {
      client_request_id: 'export-2',
      metadata: {
        ...who,
        format: 'csv',
        filters: { type: ['audit.gap', 'setting.changed'], from: `${DAY}0T00:00:00Z`, after: 3 },
      },
    },
  ]);
});

test('the pages of one export are one event, and what no event covers is another', async () => {
  const before = (await recorded()).length;
  const next = (answer: { headers: Headers }) =>
    /^<([^>]+)>; rel="next"$/.exec(answer.headers.get('link') ?? '')?.[1];
  const follow = async (path: string, token = auditorToken()) => {
    const answer = await stream(path, token, { accept: 'application/json' });
    expect(answer.status, answer.text).toBe(200);
    return next(answer) ?? '';
  };
  const added = async () => (await recorded()).length - before;
  const second = await follow(`${PATH}?limit=1&flag=one`);
  const third = await follow(second);
  await follow(third);
  await follow(second);
  expect(await added()).toBe(1);
  const forgeries = {
    'another filter': second.replace('flag=one', 'flag=two'),
    'no filter': second.replace('flag=one&', ''),
    'an end beyond it': second.replace(/until=\d+/, 'until=999999'),
    'no end': second.replace(/until=\d+&/, ''),
    'an export that isn’t': second.replace(/export=[\w-]+/, `export=${crypto.randomUUID()}`),
    none: second.replace(/&export=[\w-]+/, ''),
  };
  for (const [what, path] of Object.entries(forgeries)) {
    const count = await added();
    await follow(path);
    expect([what, await added()]).toEqual([what, count + 1]);
  }
  const count = await added();
  await follow(second, auditorToken({ userId: 'zoe' }));
  expect(await added()).toBe(count + 1);
  const bad = await stream(`${PATH}?export=x`, auditorToken(), {});
  expect(bad.status).toBe(400);
});
