import { afterAll, beforeAll, beforeEach, expect } from 'vitest';
import { makeGraphql } from '../../src/graphql/index.ts';
import { contentsOf, startTestApi, type Answer, type TestApi } from './api.ts';
import { value } from './actors.ts';
import { withClient, type TestDatabase } from './database.ts';
import { adminToken } from './tokens.ts';

/** Another admin than the one whose token the rest of a test uses. */
export const bob = () => adminToken({ userId: 'bob', email: 'bob@example.com' });

export interface GraphqlAnswer {
  readonly data: Record<string, unknown> | null;
  readonly errors?: { message: string; extensions: object }[];
}

/** The time in a sentence about a change: with the day, where a test runs at midnight. */
export const AT = String.raw`at (\d{4}-\d\d-\d\d )?\d\d:\d\d UTC`;

/** REST and GraphQL for a whole test file, and a flag at revision 1 for each test. */
export function useRevisions(database: TestDatabase) {
  let api: TestApi | undefined;
  let count = 0;
  let flag = { id: '', path: '' };
  beforeAll(async () => {
    api = await startTestApi(database.authenticatorUrl, { makeGraphql });
  });
  afterAll(() => api?.close());

  const call = async (target: string, json?: object, token = adminToken()): Promise<Answer> => {
    if (api === undefined) throw new Error('The API exists only inside tests.');
    return api.call(target, { token, json });
  };
  beforeEach(async () => {
    const key = `revised-${++count}`;
    const { body } = await call('POST /api/admin/flags', { flag_key: key });
    flag = { id: body.id, path: `/api/admin/flags/${key}` };
  });

  return {
    call,
    flag: () => flag,
    patchFlag: (json: object, token?: string) => call(`PATCH ${flag.path}`, json, token),
    /** A query as alice, an admin. */
    graphql: async (query: string, variables: object = {}): Promise<GraphqlAnswer> =>
      JSON.parse((await call('POST /graphql', { query, variables })).text) as GraphqlAnswer,
    /** Sends a change that must be refused, and expects that nothing was written, no denial either. */
    refused: async (target: string, json: object, code: string) => {
      const denied = () =>
        withClient(database.ownerUrl, (client) =>
          value(client, 'select count(*)::int from app_private.denials'),
        );
      const before = [await contentsOf(database), await denied()];
      const { status, body } = await call(target, json);
      expect([status, body.code]).toEqual([409, code]);
      expect([await contentsOf(database), await denied()]).toEqual(before);
      return body;
    },
  };
}
