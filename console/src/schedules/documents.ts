import { graphql } from '../data/documents.ts';

/** A flag as it is now, with what is pending: what a form must know before it changes it. */
export const FLAG_AHEAD = graphql(`
  query FlagAhead($environment: String!, $flagKey: String!) {
    featureFlagByEnvironmentAndFlagKey(environment: $environment, flagKey: $flagKey) {
      id
      flagKey
      environment
      enabled
      rolloutPercentage
      revision
      schedules(condition: { status: "pending" }, orderBy: [SCHEDULED_AT_ASC], first: 100) {
        totalCount
        nodes {
          id
          scheduledAt
          createdBy
          requestedBy
          updates {
            enabled
            rolloutPercentage
          }
        }
      }
    }
  }
`);

/** A schedule as it is now, for what one does about it. */
export const SCHEDULE_NOW = graphql(`
  query ScheduleNow($id: UUID!) {
    featureFlagSchedule(id: $id) {
      id
      status
      scheduledAt
      revision
      attempts
      errorMessage
      suspendedFor
      suspendedDetails
      plan {
        title
      }
      updates {
        enabled
        rolloutPercentage
      }
      flag {
        flagKey
        environment
        enabled
        rolloutPercentage
      }
    }
  }
`);

/** Keys that have a text in them, for completion. */
export const FLAG_KEYS = graphql(`
  query FlagKeys($environment: String!, $text: String!) {
    featureFlags(
      condition: { environment: $environment, flagKeyContains: $text }
      orderBy: [FLAG_KEY_ASC]
      first: 20
    ) {
      nodes {
        id
        flagKey
      }
    }
  }
`);
