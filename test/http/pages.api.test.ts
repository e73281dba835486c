import { beforeAll, describe, expect, test } from 'vitest';

import { LIST } from '../../src/schedules/routes.ts';
import type { AnswerBody } from '../support/api.ts';
import { useApi } from '../support/api.ts';
import { useDatabase, withClient, withRollback } from '../support/database.ts';
import { insertFlag, insertSchedule } from '../support/factory.ts';
import { become } from '../support/roles.ts';
import { adminToken, viewerToken } from '../support/tokens.ts';

const database = useDatabase();
const api = useApi(database);
const token = viewerToken();

/** Follows the links from page to page; `onPage` runs after each. */
async function readAll(path: string, onPage?: () => Promise<unknown>): Promise<AnswerBody[][]> {
  const pages: AnswerBody[][] = [];
  for (let next: string | undefined = path; next !== undefined;) {
    const answer = await api.call(`GET ${next}`, { token });
    expect(answer.status).toBe(200);
    pages.push(answer.body as unknown as AnswerBody[]);
    await onPage?.();
    next = /^<([^>]+)>; rel="next"$/.exec(answer.headers.get('link') ?? '')?.[1];
  }
  return pages;
}

describe('schedules', () => {
  const FLAG = 'paged';
  const path = `/api/admin/flags/${FLAG}/schedule`;
  let expected: string[] = [];

  beforeAll(async () => {
    await withClient(database.ownerUrl, async (client) => {
      const { id } = await insertFlag(client, { flag_key: FLAG });
      // Twelve of one transaction have one created_at; six more differ by microseconds.
      await client.query(
        `insert into app_public.feature_flag_schedules (flag_id, scheduled_at, updates)
         select $1, now() + interval '1 hour', '{"enabled": true}' from generate_series(1, 12)`,
        [id],
      );
      for (let i = 0; i < 6; i++) await insertSchedule(client, id);
      await client.query(
        `update app_public.feature_flag_schedules set status = 'cancelled'
         where id in (select id from app_public.feature_flag_schedules order by id limit 7)`,
      );
      const { rows } = await client.query<{ id: string }>(
        'select id from app_public.feature_flag_schedules order by created_at desc, id desc',
      );
      expected = rows.map(({ id }) => id);
    });
  });

  test.each([1, 5, 6, 18, 100])('in pages of %i come newest first, each once', async (limit) => {
    const pages = await readAll(`${path}?limit=${limit}`);
    expect(pages.flat().map(({ id }) => id)).toEqual(expected);
    expect(pages).toHaveLength(Math.ceil(expected.length / limit));
  });

  test('keep the other parameters from page to page', async () => {
    const pages = await readAll(`${path}?status=cancelled&limit=3&environment=production`);
    expect(pages.map((page) => page.length)).toEqual([3, 3, 1]);
    expect(pages.flat().every(({ status }) => status === 'cancelled')).toBe(true);
  });

  test('that are made meanwhile neither repeat nor hide any', async () => {
    const flag = await withClient(database.ownerUrl, async (client) => {
      const { id, flag_key } = await insertFlag(client);
      for (let i = 0; i < 5; i++) await insertSchedule(client, id);
      return { id, flag_key };
    });
    const pages = await readAll(`/api/admin/flags/${flag.flag_key}/schedule?limit=2`, () =>
      withClient(database.ownerUrl, (client) => insertSchedule(client, flag.id)),
    );
    const ids = pages.flat().map(({ id }) => id);
    expect(ids).toHaveLength(5);
    expect(new Set(ids).size).toBe(5);
  });

  test('are 50 a page unless a limit is given', async () => {
    const flag_key = await withClient(database.ownerUrl, async (client) => {
      const { id, flag_key } = await insertFlag(client);
      await client.query(
        `insert into app_public.feature_flag_schedules (flag_id, scheduled_at, updates)
         select $1, now() + interval '1 hour', '{"enabled": true}' from generate_series(1, 51)`,
        [id],
      );
      return flag_key;
    });
    const pages = await readAll(`/api/admin/flags/${flag_key}/schedule`);
    expect(pages.map((page) => page.length)).toEqual([50, 1]);
  });
});

test('a page of schedules is found by its index, from the cursor on', async () => {
  await withRollback({ ...database, ownerUrl: database.rootUrl }, async (client) => {
    const { id, flag_key } = await insertFlag(client);
    await client.query(
      `insert into app_public.feature_flag_schedules (flag_id, scheduled_at, updates)
       select $1, now() + interval '1 hour', '{"enabled": true}' from generate_series(1, 3000)`,
      [id],
    );
    await client.query('analyze app_public.feature_flag_schedules, app_public.feature_flags');
    await become(client, 'viewer');
    const { rows } = await client.query<Record<'QUERY PLAN', string>>(
      `explain (costs off) ${LIST}`,
      [flag_key, 'production', null, '2100-01-01T00:00:00Z', id, 51],
    );
    const plan = rows.map((row) => row['QUERY PLAN']).join('\n');
    expect(plan).toMatch(
      /feature_flag_schedules_flag_id_created_at_idx[^]*?Index Cond: \(\(flag_id = f\.id\) AND \(ROW\(created_at, id\) </,
    );
  });
});

test('flags come by key in pages, of one environment', async () => {
  const keys = ['b', 'a', 'B', 'a-1', 'a.1', '_'.padStart(2, 'c')];
  for (const flag_key of keys) {
    const json = { flag_key, environment: 'listed' };
    const answer = await api.call('POST /api/admin/flags', { token: adminToken(), json });
    expect(answer.status).toBe(201);
  }
  const whole = await readAll('/api/admin/flags?environment=listed');
  const inPages = await readAll('/api/admin/flags?environment=listed&limit=2');
  expect(whole).toHaveLength(1);
  expect(inPages.map((page) => page.length)).toEqual([2, 2, 2]);
  expect(inPages.flat()).toEqual(whole.flat());
  expect(new Set(whole.flat().map(({ flag_key }) => flag_key))).toEqual(new Set(keys));
});
