import { beforeAll, describe, expect, test } from 'vitest';
import { useApi } from '../../support/api.ts';
import { useDatabase, withClient } from '../../support/database.ts';
import { addEvents, linesOf } from '../../support/export.ts';
import { adminToken, auditorToken, sign, viewerToken } from '../../support/tokens.ts';
import { PATH, DAY, events, readStream, recorded } from '../../support/exported_trail.ts';

const database = useDatabase();
const api = useApi(database);
const NDJSON = { accept: 'application/x-ndjson' };
const CSV = { accept: 'text/csv' };

beforeAll(async () => {
  await withClient(database.ownerUrl, (client) => addEvents(client, events));
});

/** What an address answers as NDJSON, without the exports that this file has recorded itself. */
async function read(query = '', token = auditorToken()) {
  const answer = await readStream(
    api.url + `${PATH}?until=${events.length}&${query}`,
    token,
    NDJSON,
  );
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
    const answer = await readStream(
      api.url + PATH,
      auditorToken(),
      accept === undefined ? {} : { accept },
    );
    expect([answer.status, answer.headers.get('content-type')]).toEqual([200, type]);
    expect(answer.headers.get('vary')).toContain('Accept');
    expect(answer.headers.get('cache-control')).toBe('no-store');
  });

  test('others are refused, and nothing is recorded', async () => {
    const before = await recorded(database);
    const answer = await api.call(`GET ${PATH}`, {
      token: auditorToken(),
      headers: { accept: 'application/xml' },
    });
    expect([answer.status, answer.body.code]).toEqual([406, 'not_acceptable']);
    expect(await recorded(database)).toEqual(before);
  });

  test('CSV has a head, and no cell that a spreadsheet would run', async () => {
    const { text } = await readStream(api.url + `${PATH}?after=4&until=5`, auditorToken(), CSV);
    const [head, line, end, ...others] = text.split('\r\n');
    expect(head).toMatch(/^seq,id,occurred_at,/);
    expect(line).toMatch(
      /^5,[^,]+,2026-11-20T09:00:00\.000000Z,feature_flag\.updated,info,,'=cmd,/,
    );
    expect(line).toContain(`,"'@evil,""x""",`);
    expect([end, others]).toEqual(['', []]);
  });

  test('HEAD answers as GET does, without a body and without a record', async () => {
    const before = await recorded(database);
    for (const headers of [{}, NDJSON, CSV]) {
      const answer = await api.call(`HEAD ${PATH}?follow=false`, {
        token: auditorToken(),
        headers,
      });
      expect([answer.status, answer.text]).toEqual([200, '']);
    }
    const bad = await api.call(`HEAD ${PATH}?limit=0`, { token: auditorToken() });
    expect(bad.status).toBe(400);
    expect(await recorded(database)).toEqual(before);
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
    const before = await recorded(database);
    for (const headers of [{}, NDJSON, CSV]) {
      const answer = await api.call(`GET ${PATH}`, { token, headers });
      expect([answer.status, answer.body.code]).toEqual([status, code]);
    }
    expect(await recorded(database)).toEqual(before);
  });
});
