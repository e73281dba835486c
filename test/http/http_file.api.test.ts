import { readFile } from 'node:fs/promises';

import { describe, expect, test } from 'vitest';

import { useApi } from '../support/api.ts';
import { useDatabase } from '../support/database.ts';
import { fillIn, parseHttpFile, valueAt } from '../support/http_file.ts';
import { adminToken, auditorToken, viewerToken } from '../support/tokens.ts';

const read = async (name: string) =>
  parseHttpFile(await readFile(new URL(`../../http/${name}`, import.meta.url), 'utf8'));
const { variables, requests } = await read('flag-schedules.http');
const FILES = {
  'flag-schedules.http': { variables, requests },
  'audit-events.http': await read('audit-events.http'),
  'plans.http': await read('plans.http'),
};

test('flag-schedules.http has every kind of request', () => {
  expect(requests.length).toBeGreaterThanOrEqual(20);
  expect(new Set(requests.map(({ method }) => method))).toEqual(
    new Set(['GET', 'POST', 'PATCH', 'DELETE']),
  );
});

describe.each(Object.entries(FILES))('http/%s', (_, { variables, requests }) => {
  const api = useApi(useDatabase());
  const answers = new Map<string, unknown>();
  const environment = { ADMIN: adminToken(), AUDITOR: auditorToken(), VIEWER: viewerToken() };
  const fill = (part: string) =>
    fillIn(part, { variables: { ...variables, host: '' }, answers, environment });

  // In order: later requests use the answers of earlier ones.
  test.each(requests.map((request) => [`${request.method} ${request.url}`, request] as const))(
    '%s',
    async (_, { method, url, headers, body, name, expectations, line }) => {
      expect(expectations.length, `the request in line ${line} has no "# expect"`).toBeGreaterThan(
        0,
      );
      const answer = await api.call(`${method} ${fill(url)}`, {
        headers: Object.fromEntries(
          Object.entries(headers).map(([header, value]) => [header, fill(value)]),
        ),
        ...(body === null ? {} : { body: fill(body) }),
      });
      for (const { status, path, value } of expectations) {
        expect(answer.status, `line ${line}: ${answer.text}`).toBe(status);
        if (path === null || value === null) continue;
        expect(valueAt(answer.body, path), `line ${line}: $.${path}`).toEqual(
          JSON.parse(fill(value)),
        );
      }
      if (name !== null) answers.set(name, answer.body);
    },
  );
});

describe('the requests of docs/queries.md', async () => {
  const page = await readFile(new URL('../../docs/queries.md', import.meta.url), 'utf8');
  const requests = [...page.matchAll(/```http\n([^`]*)```/g)].map(([, text = '']) => text.trim());
  const api = useApi(useDatabase());

  test.each(requests)('%s', async (request) => {
    const { status, body } = await api.call(request, { token: adminToken() });
    const found: unknown = 'flags' in body ? body.flags : body;
    expect([status, found]).toEqual([200, []]);
  });
});

describe('the parser', () => {
  test('refuses what it does not understand', () => {
    expect(() => parseHttpFile('### \nnonsense\n')).toThrow();
    expect(() => parseHttpFile('###\n# expect 200 created_by = "alice"\nGET /\n')).toThrow();
    expect(() =>
      fillIn('{{unknown}}', { variables, answers: new Map(), environment: {} }),
    ).toThrow();
  });

  test('counts lines as editors do', () => {
    const [, second] = parseHttpFile(
      '###\nGET /a\n\n###\n# expect 200\nGET /b\nX: y\n\n{}\n',
    ).requests;
    expect(second).toMatchObject({ line: 6, url: '/b', headers: { X: 'y' }, body: '{}' });
  });
});
