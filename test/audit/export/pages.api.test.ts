import { createHash } from 'node:crypto';
import { auditEventSchema } from 'halyard/schemas';
import { beforeAll, describe, expect, test } from 'vitest';
import { useApi } from '../../support/api.ts';
import { useDatabase, withClient } from '../../support/database.ts';
import { addEvents, number } from '../../support/export.ts';
import { adminToken, auditorToken } from '../../support/tokens.ts';
import { PATH, DAY, events, readStream, recorded } from '../../support/exported_trail.ts';
import { z } from '../../../src/lib/zod.ts';

const database = useDatabase();
const api = useApi(database);

beforeAll(async () => {
  await withClient(database.ownerUrl, (client) => addEvents(client, events));
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
    const page = z.array(auditEventSchema).parse(answer.body);
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

test('each export is in the trail, with what was asked for', async () => {
  const known = new Set((await recorded(database)).map(({ id }) => id));
  const ask = (query: string, accept: string, id: string) =>
    readStream(api.url + PATH + query, auditorToken(), { accept, 'x-request-id': id });
  await ask('?flag=one&actor=alice&limit=5', 'application/json', 'export-1');
  await ask(
    `?type=audit.gap,setting.changed&from=${DAY}0T00:00:00Z&after=3`,
    'text/csv',
    'export-2',
  );
  const added = (await recorded(database)).filter(({ id }) => !known.has(id));
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
  const before = (await recorded(database)).length;
  const next = (answer: { headers: Headers }) =>
    /^<([^>]+)>; rel="next"$/.exec(answer.headers.get('link') ?? '')?.[1];
  const follow = async (path: string, token = auditorToken()) => {
    const answer = await readStream(api.url + path, token, { accept: 'application/json' });
    expect(answer.status, answer.text).toBe(200);
    return next(answer) ?? '';
  };
  const added = async () => (await recorded(database)).length - before;
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
  const bad = await readStream(api.url + `${PATH}?export=x`, auditorToken(), {});
  expect(bad.status).toBe(400);
});
