import { randomUUID } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { useApi } from '../support/api.ts';
import { useDatabase } from '../support/database.ts';
import { adminToken } from '../support/tokens.ts';
import { FLAG, good, SCHEDULES, useRefusals } from '../support/refusals.ts';

const database = useDatabase();
const api = useApi(database);

const site = useRefusals(database, api);
const { expectRefused } = site;

describe('addresses', () => {
  test.each([
    ['a key of 101 characters', 'x'.repeat(101), 400, 'invalid_request'],
    ['a slash', 'a%2Fb', 400, 'invalid_request'],
    ['bad percent-encoding', '%ZZ', 400, 'invalid_url'],
    ['percent-encoding that is no UTF-8', '%ff', 400, 'invalid_url'],
    ['an emoji', '🎉', 400, 'invalid_request'],
    ['NUL', 'a%00', 400, 'invalid_request'],
    ['a key that is empty', '', 404, 'not_found'],
    ['a key that nothing has', 'absent', 404, 'flag_not_found'],
    ['__proto__', '__proto__', 400, 'invalid_request'],
  ])('with %s are refused', async (_, key, status, code) => {
    const json = good();
    await expectRefused(`POST /api/admin/flags/${key}/schedule`, { json }, status, code);
    await expectRefused(`GET /api/admin/flags/${key}/schedule`, {}, status, code);
    if (key === '') return;
    await expectRefused(`GET /api/admin/flags/${key}`, {}, status, code);
    await expectRefused(`PATCH /api/admin/flags/${key}`, { json: { enabled: true } }, status, code);
  });

  test.each(['5', 'not-a-uuid', '%ZZ', `${randomUUID()}x`, '%00'])(
    'with a schedule id %s are refused',
    async (id) => {
      const code = id === '%ZZ' ? 'invalid_url' : 'invalid_request';
      await expectRefused(`DELETE ${SCHEDULES}/${id}`, {}, 400, code);
      await expectRefused(`GET ${SCHEDULES}/${id}`, {}, 400, code);
      await expectRefused(`POST ${SCHEDULES}/${id}/retry`, {}, 400, code);
    },
  );

  test('with the id of no schedule find none', async () => {
    const path = `${SCHEDULES}/${randomUUID()}`;
    await expectRefused(`DELETE ${path}`, {}, 404, 'schedule_not_found');
    await expectRefused(`GET ${path}`, {}, 404, 'schedule_not_found');
    await expectRefused(`POST ${path}/retry`, {}, 404, 'schedule_not_found');
  });

  test.each([
    'limit=1&limit=2',
    'limit=0',
    'limit=101',
    'limit=ten',
    'limit=1.5',
    'limit=',
    'environment=',
    'environment=a&environment=b',
    'environment[]=a',
    `environment=${'x'.repeat(21)}`,
    'environment=a%00',
    'enviroment=staging',
    'status=done',
    'status=pending&status=failed',
    'after=nonsense',
    'after=',
    `after=${Buffer.from("schedule:2030-99-99' or 1=1").toString('base64url')}`,
    `after=${Buffer.from('flag:a').toString('base64url')}`,
    '__proto__=1',
    '__proto__[limit]=1',
  ])('of a list with ?%s are refused', async (query) => {
    await expectRefused(`GET ${SCHEDULES}?${query}`, {}, 400, 'invalid_request');
  });

  test('of a list say in words what is wrong', async () => {
    for (const [query = '', message] of [
      ['limit=1000', 'must be a whole number from 1 to 100'],
      ['limit=ten', 'must be a whole number from 1 to 100'],
      ['from=2030-01-02T00:00:00Z&to=2030-01-01T00:00:00Z', 'must be after from'],
    ]) {
      const target = `GET /api/admin/schedules?${query}`;
      const { body } = await expectRefused(target, {}, 400, 'invalid_request');
      expect(body.errors).toMatchObject([{ message }]);
    }
  });

  test('of a change with an unknown parameter are refused', async () => {
    await expectRefused(`DELETE ${site.schedule}?enviroment=staging`, {}, 400, 'invalid_request');
    await expectRefused(`POST ${SCHEDULES}?env=staging`, { json: good() }, 400, 'invalid_request');
  });
});

describe('bodies', () => {
  const json = { 'content-type': 'application/json' };

  test.each([
    ['nothing', {}, 400, 'invalid_request'],
    ['half of JSON', { headers: json, body: '{"scheduled_at":' }, 400, 'invalid_json'],
    ['an array', { json: [] }, 400, 'invalid_request'],
    ['text', { json: 'enabled' }, 400, 'invalid_request'],
    ['a number', { json: 5 }, 400, 'invalid_request'],
    ['null', { json: null }, 400, 'invalid_request'],
    ['no type', { body: Buffer.from('{}') }, 415, 'unsupported_media_type'],
    [
      'another type',
      { headers: { 'content-type': 'text/plain' }, body: '{}' },
      415,
      'unsupported_media_type',
    ],
    [
      'a form',
      { headers: { 'content-type': 'application/x-www-form-urlencoded' }, body: 'a=1' },
      415,
      'unsupported_media_type',
    ],
    [
      'another character set',
      { headers: { 'content-type': 'application/json; charset=latin1' }, body: '{}' },
      415,
      'unsupported_media_type',
    ],
    [
      'UTF-7',
      { headers: { 'content-type': 'application/json; charset=utf-7' }, body: '{}' },
      415,
      'unsupported_media_type',
    ],
    [
      'bytes that are no UTF-8',
      {
        headers: json,
        body: Buffer.concat([
          Buffer.from('{"flag_key":"bytes","description":"'),
          Buffer.of(0xff),
          Buffer.from('"}'),
        ]),
      },
      400,
      'invalid_json',
    ],
    [
      'compression',
      { headers: { ...json, 'content-encoding': 'gzip' }, body: '{}' },
      415,
      'unsupported_media_type',
    ],
    ['1 MB', { headers: json, body: `{"x":"${'x'.repeat(1_000_000)}"}` }, 413, 'body_too_large'],
    [
      '20,000 brackets',
      { headers: json, body: '['.repeat(20_000) + ']'.repeat(20_000) },
      400,
      'invalid_request',
    ],
  ] as const)('of %s are refused', async (_, call, status, code) => {
    await expectRefused(`POST ${SCHEDULES}`, call, status, code);
    await expectRefused('POST /api/admin/flags', call, status, code);
    await expectRefused(`PATCH ${site.schedule}`, call, status, code);
  });

  test('that are empty count as {}', async () => {
    await expectRefused(`POST ${SCHEDULES}`, { headers: json }, 400, 'invalid_request');
    await expectRefused(`PATCH ${site.schedule}`, { headers: json }, 400, 'invalid_scheduled_at');
  });

  test('that may be left out are checked when they are there', async () => {
    await expectRefused(`DELETE ${site.schedule}`, { json: null }, 400, 'invalid_request');
    await expectRefused(`DELETE ${site.schedule}`, { json: [] }, 400, 'invalid_request');
    await expectRefused(`DELETE ${site.schedule}`, { body: 'x' }, 415, 'unsupported_media_type');
  });
});

describe('methods', () => {
  test.each([
    ['PUT', '/api/admin/flags', 'GET, HEAD, POST, OPTIONS'],
    ['DELETE', `/api/admin/flags/${FLAG}`, 'GET, HEAD, PATCH, OPTIONS'],
    ['PUT', SCHEDULES, 'GET, HEAD, POST, OPTIONS'],
    ['POST', `${SCHEDULES}/${randomUUID()}`, 'GET, HEAD, PATCH, DELETE, OPTIONS'],
    ['GET', `${SCHEDULES}/${randomUUID()}/retry`, 'POST, OPTIONS'],
  ])('%s of %s is not allowed', async (method, path, allow) => {
    const answer = await expectRefused(`${method} ${path}`, {}, 405, 'method_not_allowed');
    expect(answer.headers.get('allow')).toBe(allow);
  });

  test('OPTIONS says what is', async () => {
    const answer = await api.call(`OPTIONS ${SCHEDULES}`, { token: adminToken() });
    expect([answer.status, answer.headers.get('allow')]).toEqual([204, 'GET, HEAD, POST, OPTIONS']);
  });

  test('HEAD is GET without the body', async () => {
    const answer = await api.call(`HEAD ${SCHEDULES}`, { token: adminToken() });
    expect([answer.status, answer.text]).toEqual([200, '']);
  });
});

test.each(['/api', '/api/', '/api/admin', '/api/admin/flag', `${SCHEDULES}/a/b/c`, '/%ZZ'])(
  'there is nothing at %s',
  async (path) => {
    await expectRefused(`GET ${path}`, {}, 404, 'not_found');
  },
);

test('nothing of all that was our fault', () => {
  expect(api.lines.filter(({ level }) => level === 'error')).toEqual([]);
});
