import { expect } from 'vitest';
import type { FlagState, Plan, PlanChange } from '../../src/schemas.ts';
import { inMinutes, type Answer, type TestApi } from './api.ts';
import { withClient, type TestDatabase } from './database.ts';
import { insertFlag } from './factory.ts';
import { adminToken } from './tokens.ts';

/** An answer's body as a plan. */
export const planIn = ({ body }: Answer) => body as unknown as Plan;

/** A body of a plan with these changes, due in an hour. */
export const planWith = (...changes: Partial<PlanChange>[]) => ({
  title: 'Release',
  starts_at: inMinutes(60),
  steps: [{ changes }],
});

/** What tests of plans begin with: flags, and plans that change them. */
export function usePlans(database: TestDatabase, api: TestApi) {
  const asOwner = <T>(work: Parameters<typeof withClient<T>>[1]) =>
    withClient(database.ownerUrl, work);

  return {
    asOwner,
    /** A change that turns a new flag on, unless it says otherwise. */
    newChange: async (overrides: Partial<PlanChange> = {}): Promise<PlanChange> => {
      const { environment = 'production' } = overrides;
      const { flag_key } = await asOwner((client) => insertFlag(client, { environment }));
      return { flag_key, environment, updates: { enabled: true }, ...overrides };
    },
    /** alice makes a plan by REST. */
    create: async (body: object): Promise<Plan> => {
      const answer = await api.call('POST /api/admin/plans', { token: adminToken(), json: body });
      expect([answer.status, answer.text]).toEqual([201, expect.any(String)]);
      return planIn(answer);
    },
    /** What the flag of a change is now. */
    stateOf: async ({ flag_key, environment }: PlanChange) => {
      const target = `GET /api/admin/flags/${flag_key}?environment=${environment}`;
      const { body } = await api.call(target, { token: adminToken() });
      const { enabled, rollout_percentage } = body as unknown as FlagState;
      return { enabled, rollout_percentage };
    },
  };
}
