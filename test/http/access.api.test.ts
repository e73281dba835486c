import { connect } from 'node:net';

import { beforeAll, describe, expect, test } from 'vitest';

import { contentsOf, inMinutes, useApi } from '../support/api.ts';
import { useDatabase, withClient } from '../support/database.ts';
import { insertFlag, insertSchedule } from '../support/factory.ts';
import { adminToken, auditorToken, refusedTokens, sign, viewerToken } from '../support/tokens.ts';

const database = useDatabase();
const api = useApi(database);

const FLAG = '/api/admin/flags/guarded';
const SCHEDULES = `${FLAG}/schedule`;
let schedule = '';

beforeAll(async () => {
  await withClient(database.ownerUrl, async (client) => {
    const { id } = await insertFlag(client, { flag_key: 'guarded' });
    schedule = `${SCHEDULES}/${(await insertSchedule(client, id)).id}`;
  });
});

const reads = () => ['GET /api/admin/flags', `GET ${FLAG}`, `GET ${SCHEDULES}`, `GET ${schedule}`];
const writes = () =>
  [
    ['POST /api/admin/flags', { flag_key: 'new' }],
    [`PATCH ${FLAG}`, { enabled: true }],
    [`POST ${SCHEDULES}`, { scheduled_at: inMinutes(60), updates: { enabled: true } }],
    [`PATCH ${schedule}`, { scheduled_at: inMinutes(90) }],
    [`DELETE ${schedule}`, undefined],
    [`POST ${schedule}/retry`, undefined],
  ] as const;

/** Sends every request, and expects one answer from all and no change. */
async function expectAll(
  requests: readonly (readonly [string, (object | undefined)?])[],
  token: string | undefined,
  status: number,
  code: string,
) {
  const before = await contentsOf(database);
  for (const [target, json] of requests) {
    const answer = await api.call(target, { token, json });
    expect([target, answer.status, answer.body.code]).toEqual([target, status, code]);
  }
  expect(await contentsOf(database)).toBe(before);
}

const everything = (): (readonly [string, (object | undefined)?])[] => [
  ...reads().map((target) => [target] as const),
  ...writes(),
  ['GET /api/nothing'],
  ['PUT /api/admin/flags'],
];

describe('without a good token', () => {
  test('nothing under /api answers, and the challenge says how to ask', async () => {
    await expectAll(everything(), undefined, 401, 'token_missing');
    const { headers } = await api.call(`GET ${SCHEDULES}`);
    expect(headers.get('www-authenticate')).toBe('Bearer');
  });

  test.each(Object.entries(refusedTokens()))(
    'a token %s is refused',
    async (_, { token, code }) => {
      await expectAll([...writes(), [`GET ${SCHEDULES}`]], token, 401, code);
      const { headers } = await api.call(`GET ${SCHEDULES}`, { token });
      expect(headers.get('www-authenticate')).toBe('Bearer error="invalid_token"');
    },
  );

  test('a body is not waited for', async () => {
    const { hostname, port } = new URL(api.url);
    const socket = connect(Number(port), hostname);
    const answered = new Promise<string>((resolve, reject) => {
      socket.once('data', (data) => resolve(data.toString()));
      socket.once('error', reject);
    });
    socket.write(
      `POST ${SCHEDULES} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n{`,
    );
    expect(await answered).toMatch(/^HTTP\/1\.1 401 /);
    socket.destroy();
  });

  test('a broken body or address is not what is complained of', async () => {
    const call = { headers: { 'content-type': 'application/json' }, body: '{' };
    expect((await api.call(`POST ${SCHEDULES}`, call)).body.code).toBe('token_missing');
    expect((await api.call('GET /api/admin/flags/%ZZ')).body.code).toBe('token_missing');
  });
});

describe('roles', () => {
  test('a viewer reads and writes nothing', async () => {
    for (const target of reads())
      expect([target, (await api.call(target, { token: viewerToken() })).status]).toEqual([
        target,
        200,
      ]);
    await expectAll(writes(), viewerToken(), 403, 'forbidden');
  });

  test('a viewer learns nothing of what is there by writing', async () => {
    const absent = schedule.replace(/.{12}$/, '000000000000');
    await expectAll(
      [
        [`DELETE ${absent}`],
        [`POST ${absent}/retry`],
        [`PATCH ${absent}`, { scheduled_at: inMinutes(90) }],
        ['PATCH /api/admin/flags/absent', { enabled: true }],
      ],
      viewerToken(),
      403,
      'forbidden',
    );
  });

  test('an auditor reads and does not write', async () => {
    for (const target of reads())
      expect([target, (await api.call(target, { token: auditorToken() })).status]).toEqual([
        target,
        200,
      ]);
    await expectAll(writes(), auditorToken(), 403, 'forbidden');
  });

  test.each([
    ['no role', {}],
    ['a role that is unknown', { role: 'root' }],
    ['a database role', { role: 'halyard_admin' }],
    ['no roles', { roles: [] }],
  ])('a token with %s gets nowhere', async (_, claims) => {
    await expectAll(everything(), sign({ userId: 'nobody', ...claims }), 403, 'role_missing');
  });
});

describe('environments', () => {
  const elsewhere = () => adminToken({ environments: ['staging'] });

  test('a token of others finds nothing here and changes nothing', async () => {
    await expectAll(
      [...reads().map((r) => [r] as const), ...writes().slice(1)],
      elsewhere(),
      404,
      'environment_not_found',
    );
  });

  test('a token of others makes no flag here, and does not learn which there are', async () => {
    await expectAll(
      [
        ['POST /api/admin/flags', { flag_key: 'new' }],
        ['POST /api/admin/flags', { flag_key: 'guarded' }],
      ],
      elsewhere(),
      403,
      'forbidden',
    );
  });

  test('a token of none finds nothing', async () => {
    const token = adminToken({ environments: [] });
    await expectAll([[`GET ${FLAG}`]], token, 404, 'environment_not_found');
  });

  test('a token of this one works', async () => {
    const token = adminToken({ environments: ['staging', 'production'] });
    expect((await api.call(`GET ${schedule}`, { token })).status).toBe(200);
    const [target, json] = writes()[2];
    expect((await api.call(target, { token, json })).status).toBe(201);
  });
});
