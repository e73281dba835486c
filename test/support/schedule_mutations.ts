import { withClient } from './database.ts';
import { inMinutes } from './graphql.ts';
import type { TestDatabase } from './database.ts';
import type { TestApi } from './graphql.ts';

/** The mutations, with the fields that their tests look at. */
export const SCHEDULE = `mutation ($input: ScheduleFlagChangeInput!) {
  scheduleFlagChange(input: $input) {
    featureFlagSchedule {
      id status scheduledAt createdBy cancelledBy cancelledAt
      updates { enabled rolloutPercentage }
      flag { flagKey environment }
    }
  }
}`;
export const CANCEL = `mutation ($id: UUID!, $reason: String) {
  cancelFlagSchedule(input: { id: $id, reason: $reason }) {
    featureFlagSchedule { id status createdBy cancelledBy cancelledAt cancelReason }
  }
}`;
export const RESCHEDULE = `mutation ($id: UUID!, $at: Datetime!, $reason: String) {
  rescheduleFlagChange(input: { id: $id, scheduledAt: $at, reason: $reason }) {
    featureFlagSchedule { id scheduledAt status reason requestedBy }
  }
}`;
export const RETRY = `mutation ($id: UUID!, $reason: String) {
  retryFlagSchedule(input: { id: $id, reason: $reason }) {
    featureFlagSchedule { id status attempts reason requestedBy }
  }
}`;

export interface Schedule {
  id: string;
  status: string;
  scheduledAt: string;
  createdBy: string | null;
  cancelledBy: string | null;
  cancelledAt: string | null;
  cancelReason: string | null;
  updates: { enabled: boolean | null; rolloutPercentage: number | null };
}

/** Schedules a change in an hour by GraphQL. */
export async function makeSchedule(
  api: TestApi,
  flagKey: string,
  changes: object,
  token?: string,
): Promise<Schedule> {
  const input = {
    flagKey,
    scheduledAt: inMinutes(),
    updates: { enabled: true },
    ...changes,
  };
  const { scheduleFlagChange } = await api.data<{
    scheduleFlagChange: { featureFlagSchedule: Schedule };
  }>(SCHEDULE, { input }, token);
  return scheduleFlagChange.featureFlagSchedule;
}

/** As the owner, whom no policy hides anything from. */
export async function rowsOf(
  database: TestDatabase,
  id: string,
): Promise<Record<string, unknown>[]> {
  return withClient(database.ownerUrl, async (client) => {
    const { rows } = await client.query<Record<string, unknown>>(
      'select * from app_public.feature_flag_schedules where flag_id = $1',
      [id],
    );
    return rows;
  });
}
