import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { contentsOf, inMinutes, startTestApi, type TestApi } from '../../support/api.ts';
import { useDatabase, withClient } from '../../support/database.ts';
import { insertFlag, insertSchedule } from '../../support/factory.ts';
import { useGraphql } from '../../support/graphql.ts';
import { adminToken } from '../../support/tokens.ts';
import { breakInserts, mendInserts } from '../../support/trail_faults.ts';

const database = useDatabase();
const graphql = useGraphql(database);
const token = adminToken();

let api: TestApi;
let flag: { id: string; flag_key: string };
let pending: string;
let failed: string;

beforeAll(async () => {
  api = await startTestApi(database.authenticatorUrl);
  await withClient(database.ownerUrl, async (client) => {
    flag = await insertFlag(client);
    ({ id: pending } = await insertSchedule(client, flag.id));
    ({ id: failed } = await insertSchedule(client, flag.id));
    await client.query(
      `update app_public.feature_flag_schedules set status = 'failed' where id = $1`,
      [failed],
    );
  });
  return () => api.close();
});

beforeEach(() => () => withClient(database.ownerUrl, mendInserts));

const path = () => `/api/admin/flags/${flag.flag_key}`;

const BY_REST: Record<string, () => [string, unknown?]> = {
  'creates a flag': () => ['POST /api/admin/flags', { flag_key: 'new' }],
  'updates a flag': () => [`PATCH ${path()}`, { enabled: true }],
  'schedules a change': () => [
    `POST ${path()}/schedule`,
    { scheduled_at: inMinutes(60), updates: { enabled: true } },
  ],
  'moves a schedule': () => [
    `PATCH ${path()}/schedule/${pending}`,
    { scheduled_at: inMinutes(90) },
  ],
  'cancels a schedule': () => [`DELETE ${path()}/schedule/${pending}`],
  'retries a schedule': () => [`POST ${path()}/schedule/${failed}/retry`],
  'exports the trail': () => ['GET /api/admin/audit/events'],
};

const BY_GRAPHQL: Record<string, () => string> = {
  'creates a flag': () =>
    `createFeatureFlag(input: { featureFlag: { flagKey: "new" } }) { featureFlag { id } }`,
  'updates a flag': () =>
    `updateFeatureFlag(input: { id: "${flag.id}", patch: { enabled: true } }) { featureFlag { id } }`,
  'schedules a change': () =>
    `scheduleFlagChange(input: { flagKey: "${flag.flag_key}", scheduledAt: "${inMinutes(60)}", updates: { enabled: true } }) { featureFlagSchedule { id } }`,
  'moves a schedule': () =>
    `rescheduleFlagChange(input: { id: "${pending}", scheduledAt: "${inMinutes(90)}" }) { featureFlagSchedule { id } }`,
  'cancels a schedule': () =>
    `cancelFlagSchedule(input: { id: "${pending}" }) { featureFlagSchedule { id } }`,
  'retries a schedule': () =>
    `retryFlagSchedule(input: { id: "${failed}" }) { featureFlagSchedule { id } }`,
};

const fillDisk = (faults = { events: '53100', dead_letters: '53100' }) =>
  withClient(database.ownerUrl, (client) => breakInserts(client, faults));

describe('no room for event and dead letter: 503 database_full, and nothing is changed', () => {
  test.for(Object.entries(BY_REST))('an admin %s by REST', async ([, request]) => {
    await fillDisk();
    const before = await contentsOf(database);
    const [target, json] = request();
    const answer = await api.call(target, { token, json });
    expect([answer.status, answer.body.code]).toEqual([503, 'database_full']);
    expect(answer.headers.get('retry-after')).toBe('1');
    expect(await contentsOf(database)).toBe(before);
  });

  test.for(Object.entries(BY_GRAPHQL))('an admin %s by GraphQL', async ([, field]) => {
    await fillDisk();
    const before = await contentsOf(database);
    expect(await graphql().codeOf(`mutation { ${field()} }`)).toBe('database_full');
    expect(await contentsOf(database)).toBe(before);
  });

  test('a disk that fails is the same', async () => {
    await fillDisk({ events: '58030', dead_letters: '58030' });
    const answer = await api.call('POST /api/admin/flags', { token, json: { flag_key: 'new' } });
    expect([answer.status, answer.body.code]).toEqual([503, 'database_full']);
  });

  test('the log has a warning for the administrator, and no error', () => {
    for (const { lines } of [api, graphql()]) {
      expect(lines.map(({ level }) => level)).not.toContain('error');
      expect(lines.map(({ err }) => (err as { code?: string } | undefined)?.code)).toContain(
        '53100',
      );
    }
  });
});

test('when there is room again the same request works', async () => {
  const request = () => api.call('POST /api/admin/flags', { token, json: { flag_key: 'again' } });
  await fillDisk();
  expect((await request()).status).toBe(503);
  await withClient(database.ownerUrl, mendInserts);
  expect((await request()).status).toBe(201);
});

describe('what a table of the application itself meets', () => {
  test.for([
    ['53000', 'database_full'],
    ['53100', 'database_full'],
    ['53200', 'database_full'],
    ['53300', 'database_unavailable'],
    ['53400', 'database_full'],
    ['58000', 'database_unavailable'],
    ['58030', 'database_unavailable'],
  ] as const)('%s is 503 %s', async ([sqlState, code]) => {
    await withClient(database.ownerUrl, async (client) => {
      await breakInserts(client, {});
      await client.query(
        `create trigger _050_fault before insert on app_public.feature_flags
         for each row execute function app_private.tg_test__fault('${sqlState}')`,
      );
    });
    const answer = await api.call('POST /api/admin/flags', { token, json: { flag_key: 'new' } });
    expect([answer.status, answer.body.code]).toEqual([503, code]);
    const field =
      'createFeatureFlag(input: { featureFlag: { flagKey: "new" } }) { clientMutationId }';
    expect(await graphql().codeOf(`mutation { ${field} }`)).toBe(code);
  });
});
