import type { ResultOf } from 'gql.tada';
import { graphql } from '../data/documents.ts';

/** A paused environment: what came due since, and what is still to come. */
export const DUE = graphql(`
  query Due($environment: String!) {
    environments(condition: { name: $environment }, first: 1) {
      nodes {
        name
        stoppedAt
        lastResume
      }
    }
    suspended: featureFlagSchedules(
      condition: { environment: $environment, status: "suspended" }
      orderBy: [SCHEDULED_AT_ASC]
      first: 100
    ) {
      totalCount
      nodes {
        id
        scheduledAt
        suspendedFor
        occurrenceNo
        stepNo
        createdBy
        requestedBy
        reason
        updates {
          enabled
          rolloutPercentage
        }
        flag {
          flagKey
          enabled
          rolloutPercentage
        }
        planId
        plan {
          title
          environments
        }
      }
    }
    pending: featureFlagSchedules(
      condition: { environment: $environment, status: "pending" }
      orderBy: [SCHEDULED_AT_ASC]
      first: 100
    ) {
      totalCount
      nodes {
        id
        scheduledAt
        suspendedFor
        occurrenceNo
        stepNo
        createdBy
        requestedBy
        reason
        updates {
          enabled
          rolloutPercentage
        }
        flag {
          flagKey
          enabled
          rolloutPercentage
        }
        planId
        plan {
          title
          environments
        }
      }
    }
  }
`);

export type DueAnswer = ResultOf<typeof DUE>;
export type DueSchedule = NonNullable<DueAnswer['suspended']>['nodes'][number];

export const RESUME = graphql(`
  mutation ResumeEnvironment(
    $environment: String!
    $missed: String!
    $reason: String!
    $except: [UUID!]
  ) {
    resumeEnvironment(
      input: { name: $environment, missed: $missed, reason: $reason, except: $except }
    ) {
      environment {
        name
        stoppedAt
        stoppedBy
        stopReason
      }
    }
  }
`);
