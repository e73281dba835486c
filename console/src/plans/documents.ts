import type { ResultOf } from 'gql.tada';
import { graphql } from '../data/documents.ts';

/** Plans of one status, with what they change. */
export const PLANS = graphql(`
  query Plans(
    $status: String!
    $environment: String
    $flagKey: String
    $order: [PlanOrderBy!]
    $after: Cursor
    $open: Boolean!
  ) {
    plans(
      condition: { status: $status, environment: $environment, flagKey: $flagKey }
      orderBy: $order
      first: 50
      after: $after
    ) {
      totalCount
      nodes {
        id
        title
        status
        suspendedFor
        nextAt
        endedAt
        appliedCount
        createdBy
        environments
        steps {
          changes {
            flagKey
            environment
            updates {
              enabled
              rolloutPercentage
            }
          }
        }
        conflicts @include(if: $open) {
          flagKey
        }
      }
      pageInfo {
        hasNextPage
        endCursor
      }
    }
  }
`);

/** One plan, with the schedules of its point. */
export const PLAN = graphql(`
  query Plan($id: UUID!) {
    plan(id: $id) {
      id
      title
      status
      statusReason
      reason
      startsAt
      contentHash
      environments
      nextAt
      suspendedFor
      appliedCount
      skippedCount
      reverts
      createdBy
      createdAt
      endedAt
      revision
      steps {
        changes {
          flagKey
          environment
          updates {
            enabled
            rolloutPercentage
          }
          expects {
            enabled
            rolloutPercentage
          }
          onConflict
        }
      }
      conflicts {
        flagKey
        environment
        field
        kind
        expected
        found
        at
        scheduleId
        planId
      }
      schedules(first: 100) {
        nodes {
          id
          status
          scheduledAt
          appliedAt
          attempts
          maxAttempts
          nextAttemptAt
          errorMessage
          kept
          suspendedDetails
          resolutionReason
          flag {
            flagKey
            environment
          }
        }
      }
    }
  }
`);

/** What a plan that was applied changed, by the trail. */
export const PLAN_CHANGES = graphql(`
  query PlanChanges($id: UUID!) {
    auditEvents(condition: { planId: $id, eventType: "feature_flag.updated" }, first: 100) {
      nodes {
        id
        flagKey
        environment
        metadata
      }
    }
  }
`);

/** A flag as it is now, with what is pending and the plans that it belongs to. */
export const PLAN_FLAG = graphql(`
  query PlanFlag($environment: String!, $flagKey: String!) {
    featureFlagByEnvironmentAndFlagKey(environment: $environment, flagKey: $flagKey) {
      id
      flagKey
      environment
      enabled
      rolloutPercentage
      schedules(condition: { status: "pending" }, orderBy: [SCHEDULED_AT_ASC], first: 100) {
        nodes {
          id
          scheduledAt
          planId
          updates {
            enabled
            rolloutPercentage
          }
        }
      }
    }
  }
`);

/** What the trail has of a plan, its schedules and their changes, newest first. */
export const PLAN_EVENTS = graphql(`
  query PlanEvents($id: UUID!, $first: Int!) {
    auditEvents(condition: { planId: $id }, orderBy: [OCCURRED_AT_DESC], first: $first) {
      nodes {
        id
        eventType
        level
        occurredAt
        actorKind
        adminEmail
        adminUserId
        databaseUser
        flagKey
        scheduleId
        metadata
        seal {
          number
          problem
        }
      }
      pageInfo {
        hasNextPage
      }
    }
  }
`);

export type ListedPlan = ResultOf<typeof PLANS>['plans'] extends infer P
  ? NonNullable<P> extends { readonly nodes: readonly (infer N)[] }
    ? N
    : never
  : never;
export type Plan = NonNullable<ResultOf<typeof PLAN>['plan']>;
export type PlanRow = Plan['schedules']['nodes'][number];
export type PlanFlag = NonNullable<
  ResultOf<typeof PLAN_FLAG>['featureFlagByEnvironmentAndFlagKey']
>;
