import type pg from 'pg';
import { expect } from 'vitest';
import { problemSchema } from '../../src/schemas.ts';
import { readContents } from './api.ts';
import type { Call } from './api.ts';
import { adminToken } from './tokens.ts';
import type { TestApi } from './api.ts';

/** Sends it as an admin, and expects a problem with this status and code, and that nothing is written. */
export async function expectRefusal(
  { api, owner }: { api: TestApi; owner: pg.Client },
  target: string,
  call: Call,
  status: number,
  code: string,
) {
  const before = await readContents(owner);
  const answer = await api.call(target, { token: adminToken(), ...call });
  expect([answer.status, answer.body.code]).toEqual([status, code]);
  expect(answer.headers.get('content-type')).toMatch(/^application\/problem\+json/);
  expect(problemSchema.parse(answer.body)).toMatchObject({
    status,
    request_id: answer.headers.get('x-request-id'),
  });
  expect(await readContents(owner)).toBe(before);
  return answer;
}
