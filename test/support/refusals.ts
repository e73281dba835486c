import pg from 'pg';
import { afterAll, beforeAll, expect } from 'vitest';
import { problemSchema } from '../../src/schemas.ts';
import { inMinutes, readContents } from './api.ts';
import type { Call } from './api.ts';
import type { TestApi } from './api.ts';
import type { TestDatabase } from './database.ts';
import { insertFlag, insertSchedule } from './factory.ts';
import { adminToken } from './tokens.ts';

/** Sends it as an admin, and expects a problem with this status and code, and that nothing is written. */
async function expectRefusal(
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

/** The flag of `useRefusals`. */
export const FLAG = 'wishlist-gallery';
/** The address of its schedules. */
export const SCHEDULES = `/api/admin/flags/${FLAG}/schedule`;

/** A flag with a schedule, and requests about them that are to be refused. */
export function useRefusals(database: TestDatabase, api: TestApi) {
  let owner: pg.Client;
  let schedule = '';
  beforeAll(async () => {
    owner = new pg.Client({ connectionString: database.ownerUrl });
    await owner.connect();
    const { id } = await insertFlag(owner, { flag_key: FLAG });
    schedule = `${SCHEDULES}/${(await insertSchedule(owner, id)).id}`;
  });
  afterAll(() => owner.end());
  return {
    /** The address of its schedule. */
    get schedule() {
      return schedule;
    },
    expectRefused: (target: string, call: Call, status: number, code: string) =>
      expectRefusal({ api, owner }, target, call, status, code),
  };
}

/** The body of a schedule that would be taken. */
export const good = () => ({ scheduled_at: inMinutes(60), updates: { enabled: true } });
