import { expect } from 'vitest';
import { inMinutes, type TestApi } from './api.ts';
import { withClient, type TestDatabase } from './database.ts';
import { insertFlag } from './factory.ts';
import { adminToken } from './tokens.ts';

/** What tests of schedules by REST begin with: flags, and schedules of them. */
export function useSchedules(database: TestDatabase, api: TestApi) {
  const asOwner = <T>(work: Parameters<typeof withClient<T>>[1]) =>
    withClient(database.ownerUrl, work);
  return {
    asOwner,
    /** @returns the new flag's key */
    newFlag: (environment = 'production') =>
      asOwner((client) => insertFlag(client, { environment })).then(({ flag_key }) => flag_key),
    /** An admin schedules a change for an hour from now. */
    create: async (flagKey: string, updates: object = { enabled: true }, query = '') => {
      const answer = await api.call(`POST /api/admin/flags/${flagKey}/schedule${query}`, {
        token: adminToken(),
        json: { scheduled_at: inMinutes(60), updates },
      });
      expect(answer.status).toBe(201);
      return answer;
    },
  };
}
