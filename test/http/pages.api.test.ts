import { beforeAll, describe, expect, test } from 'vitest';

import { LIST_ALL } from '../../src/schedules/all.ts';
import { LIST } from '../../src/schedules/routes.ts';
import { scheduleSchema } from '../../src/schemas.ts';
import type { AnswerBody } from '../support/api.ts';
import { useApi } from '../support/api.ts';
import { useDatabase, withClient, withRollback } from '../support/database.ts';
import { insertFlag, insertSchedule } from '../support/factory.ts';
import { become } from '../support/roles.ts';
import { adminToken, viewerToken } from '../support/tokens.ts';
import { z } from '../../src/lib/zod.ts';

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

describe('schedules of all flags', () => {
  const path = '/api/admin/schedules';
  const AT = '2090-01-01T00:00:00Z';
  type Row = Record<'id' | 'flag_key' | 'environment' | 'status', string> & { at: Date };
  let expected: Row[] = [];

  beforeAll(async () => {
    await withClient(database.ownerUrl, async (client) => {
      for (const [flag_key, environment] of [
        ['night-1', 'production'],
        ['night-1', 'staging'],
        ['night-2', 'staging'],
      ] as const) {
        const { id } = await insertFlag(client, { flag_key, environment });
        // Some of one instant, others a microsecond apart.
        await client.query(
          `insert into app_public.feature_flag_schedules (flag_id, scheduled_at, updates)
           select $1, $2::timestamptz + make_interval(hours => i / 2) + (i % 3) * interval '1 us', '{"enabled": true}'
           from generate_series(1, 7) i`,
          [id, AT],
        );
      }
      await client.query(
        `update app_public.feature_flag_schedules s set status = 'cancelled'
         from app_public.feature_flags f where f.id = s.flag_id and f.flag_key like 'night-%' and s.id::text < '8'`,
      );
      const { rows } = await client.query<Row>(
        `select s.id, f.flag_key, f.environment, s.status, s.scheduled_at as at
         from app_public.feature_flag_schedules s join app_public.feature_flags f on f.id = s.flag_id
         where s.scheduled_at >= $1
         order by s.scheduled_at, s.id`,
        [AT],
      );
      expected = rows;
    });
  });

  const idsOf = (is: (row: Row) => boolean) => expected.filter(is).map(({ id }) => id);
  const read = async (query: string) => (await readAll(`${path}?from=${AT}${query}`)).flat();

  test.each([1, 4, 21, 100])('come by time in pages of %i, each once', async (limit) => {
    const pages = await readAll(`${path}?from=${AT}&limit=${limit}`);
    expect(pages.flat().map(({ id }) => id)).toEqual(idsOf(() => true));
    expect(z.array(scheduleSchema).parse(pages.flat())).toHaveLength(21);
    expect(pages).toHaveLength(Math.ceil(21 / limit));
  });

  test('can be narrowed, alone and together, from page to page', async () => {
    const last = new Date(Date.parse(AT) + 3_600_000).toISOString();
    const narrowed: [string, (row: Row) => boolean][] = [
      ['&environment=staging', ({ environment }) => environment === 'staging'],
      ['&flag=night-1', ({ flag_key }) => flag_key === 'night-1'],
      ['&status=cancelled', ({ status }) => status === 'cancelled'],
      [`&to=${last}`, ({ at }) => at < new Date(last)],
      [
        `&to=${last}&flag=night-1&environment=staging&status=pending`,
        (row) =>
          row.at < new Date(last) &&
          row.flag_key === 'night-1' &&
          row.environment === 'staging' &&
          row.status === 'pending',
      ],
    ];
    for (const [query, is] of narrowed) {
      const found = await read(`${query}&limit=2`);
      expect([query, found.map(({ id }) => id)]).toEqual([query, idsOf(is)]);
    }
  });

  test('are those of the token’s environments', async () => {
    const limited = viewerToken({ environments: ['production'] });
    const ask = async (query: string) => {
      const { status, body } = await api.call(`GET ${path}?from=${AT}${query}`, { token: limited });
      const rows = body as unknown as { environment: string; id: string }[];
      return [status, status === 200 ? rows.map(({ id }) => id) : body.code];
    };
    const own = idsOf(({ environment }) => environment === 'production');
    expect(await ask('')).toEqual([200, own]);
    expect(await ask('&flag=night-1')).toEqual([200, own]);
    expect(await ask('&environment=staging')).toEqual([404, 'environment_not_found']);
    expect(await ask('&flag=night-2')).toEqual([404, 'flag_not_found']);
    const none = await api.call(`GET ${path}`, { token: viewerToken({ environments: [] }) });
    expect([none.status, none.body]).toEqual([200, []]);
  });

  test('of a flag that is nowhere aren’t an empty list, and what is misspelt is refused', async () => {
    for (const [query, status, code] of [
      ['flag=nihgt-1', 404, 'flag_not_found'],
      ['environment=prodction', 404, 'environment_not_found'],
      ['flag=night-2&environment=production', 404, 'flag_not_found'],
      ['status=pendign', 400, 'invalid_request'],
      ['flagKey=night-1', 400, 'invalid_request'],
      ['from=tonight', 400, 'invalid_request'],
      ['limit=101', 400, 'invalid_request'],
      ['after=c2NoZWR1bGU6', 400, 'invalid_request'],
    ] as const) {
      const answer = await api.call(`GET ${path}?${query}`, { token });
      expect([query, answer.status, answer.body.code]).toEqual([query, status, code]);
    }
    const empty = await api.call(`GET ${path}?flag=night-1&from=2099-01-01T00:00:00Z`, { token });
    expect([empty.status, empty.body]).toEqual([200, []]);
    const post = await api.call(`POST ${path}`, { token: adminToken(), json: {} });
    expect([post.status, post.headers.get('allow')]).toEqual([405, 'GET, HEAD, OPTIONS']);
  });

  test.each([
    [null, 'scheduled_at'],
    ['failed', 'failed'],
    ['cancelled', 'cancelled'],
    ['pending', 'pending'],
  ])('of status %s are found by an index in their order', async (status, index) => {
    await withRollback({ ...database, ownerUrl: database.rootUrl }, async (client) => {
      await client.query('set local session_replication_role = replica');
      await client.query('alter table app_public.feature_flag_schedules disable trigger user');
      await client.query(
        `insert into app_public.feature_flag_schedules (flag_id, scheduled_at, updates, status)
         select f.id, now() + i * interval '1 minute', '{"enabled": true}',
           case when i % 500 = 0 then 'failed' when i % 100 = 1 then 'cancelled' else 'pending' end
         from generate_series(1, 10000) i
         cross join (select id from app_public.feature_flags limit 1) f`,
      );
      await client.query('analyze app_public.feature_flag_schedules, app_public.feature_flags');
      await become(client, 'viewer');
      const { rows } = await client.query<Record<'QUERY PLAN', string>>(
        `explain (costs off) ${LIST_ALL}`,
        [null, null, status, null, null, null, null, 51],
      );
      const plan = rows.map((row) => row['QUERY PLAN']).join('\n');
      expect(plan).toMatch(
        new RegExp(
          `Index Scan using feature_flag_schedules_${index}_idx on feature_flag_schedules s`,
        ),
      );
    });
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
