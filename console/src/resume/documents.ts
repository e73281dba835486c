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

/** What a resume would do: it is done, and taken back. */
export const TRY = graphql(`
  mutation DryRunResume($environment: String!, $missed: String!, $except: [UUID!]) {
    dryRunResume(input: { environment: $environment, missed: $missed, except: $except }) {
      dryRun {
        changes {
          flagKey
          environment
          before {
            enabled
            rolloutPercentage
          }
          after {
            enabled
            rolloutPercentage
          }
        }
        conflicts {
          flagKey
          field
          expected
          found
        }
      }
    }
  }
`);

export type DryRun = NonNullable<NonNullable<ResultOf<typeof TRY>['dryRunResume']>['dryRun']>;

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
