import { inMinutes } from './api.ts';

/** A request by both ways. */
export interface TwoWays {
  readonly rest: () => readonly [string, unknown?];
  readonly graphql: () => string;
}

/** One request of each kind, by REST and by GraphQL, for a flag and its schedule that are known later. */
export function requestsFor(flagKey: () => string, schedule: () => string) {
  const CREATE = {
    rest: () => ['POST /api/admin/flags', { flag_key: 'new' }] as const,
    graphql: () =>
      'mutation { createFeatureFlag(input: { featureFlag: { flagKey: "new" } }) { clientMutationId } }',
  };
  const SCHEDULE = {
    rest: () =>
      [
        `POST /api/admin/flags/${flagKey()}/schedule`,
        { scheduled_at: inMinutes(60), updates: { enabled: true } },
      ] as const,
    graphql: () =>
      `mutation { scheduleFlagChange(input: { flagKey: "${flagKey()}", scheduledAt: "${inMinutes(60)}", updates: { enabled: true } }) { clientMutationId } }`,
  };
  const CANCEL = {
    rest: () => [`DELETE /api/admin/flags/${flagKey()}/schedule/${schedule()}`] as const,
    graphql: () =>
      `mutation { cancelFlagSchedule(input: { id: "${schedule()}" }) { clientMutationId } }`,
  };
  const LIST = {
    rest: () => ['GET /api/admin/flags'] as const,
    graphql: () => '{ featureFlags { nodes { id } } }',
  };
  const LIST_SCHEDULES = {
    rest: () => [`GET /api/admin/flags/${flagKey()}/schedule`] as const,
    graphql: () => '{ featureFlagSchedules { nodes { id } } }',
  };
  const READ_TRAIL = {
    rest: () => ['GET /api/admin/audit/events'] as const,
    graphql: () => '{ ...Events } fragment Events on Query { trail: auditEvents { nodes { id } } }',
  };

  const MAKE_ENVIRONMENT = {
    rest: () => ['POST /api/admin/environments', { name: 'new' }] as const,
    graphql: () => 'mutation { createEnvironment(input: { name: "new" }) { clientMutationId } }',
  };
  const MAKE_PLAN = {
    rest: () =>
      [
        'POST /api/admin/plans',
        {
          title: 'Release',
          starts_at: inMinutes(60),
          steps: [
            {
              changes: [
                { flag_key: flagKey(), environment: 'production', updates: { enabled: true } },
              ],
            },
          ],
        },
      ] as const,
    graphql: () =>
      `mutation { createPlan(input: { title: "Release", startsAt: "${inMinutes(60)}", steps: [{ changes: [{ flagKey: "${flagKey()}", environment: "production", updates: { enabled: true } }] }] }) { clientMutationId } }`,
  };
  const LIST_PLANS = {
    rest: () => ['GET /api/admin/plans'] as const,
    graphql: () => '{ all: plans { nodes { id } } }',
  };
  const STOP = {
    rest: () =>
      ['POST /api/admin/environments/production/stop', { reason: 'an incident' }] as const,
    graphql: () =>
      'mutation { stopEnvironment(input: { name: "production", reason: "an incident" }) { clientMutationId } }',
  };
  return {
    CREATE,
    SCHEDULE,
    CANCEL,
    LIST,
    LIST_SCHEDULES,
    READ_TRAIL,
    MAKE_ENVIRONMENT,
    MAKE_PLAN,
    LIST_PLANS,
    STOP,
  } satisfies Record<string, TwoWays>;
}
