import type { ResultOf } from 'gql.tada';
import { graphql } from '../data/documents.ts';

/** What will happen, by the rule that applies it. */
export const UPCOMING = graphql(`
  query TonightUpcoming($environment: String!, $from: Datetime!, $to: Datetime!) {
    upcomingChanges(environment: $environment, from: $from, to: $to, first: 1000) {
      at
      flagKey
      scheduleId
      updates {
        enabled
        rolloutPercentage
      }
      enabled
      rolloutPercentage
      inConflict
      planId
    }
  }
`);

/** Who asked for it and why, and what needs someone. Viewers get no persons and no reasons, as the page asks for none. */
export const ASKED = graphql(`
  query TonightAsked($environment: String!, $since: Datetime!, $to: Datetime!, $asks: Boolean!) {
    pending: featureFlagSchedules(
      condition: { environment: $environment, status: "pending", scheduledBefore: $to }
      orderBy: [SCHEDULED_AT_ASC]
      first: 100
    ) {
      totalCount
      nodes {
        id
        status
        scheduledAt
        requestedBy @include(if: $asks)
        createdBy @include(if: $asks)
        reason @include(if: $asks)
        attempts
        maxAttempts
        errorMessage @include(if: $asks)
        plan @include(if: $asks) {
          title
        }
        flag {
          flagKey
          enabled
          rolloutPercentage
        }
      }
    }
    failed: featureFlagSchedules(
      condition: { environment: $environment, status: "failed", scheduledFrom: $since }
      orderBy: [SCHEDULED_AT_DESC]
      first: 50
    ) {
      totalCount
      nodes {
        id
        status
        scheduledAt
        requestedBy @include(if: $asks)
        createdBy @include(if: $asks)
        reason @include(if: $asks)
        attempts
        errorMessage @include(if: $asks)
        planId
        plan @include(if: $asks) {
          title
        }
        updates {
          enabled
          rolloutPercentage
        }
        flag {
          flagKey
          enabled
          rolloutPercentage
        }
      }
    }
    suspended: featureFlagSchedules(
      condition: { environment: $environment, status: "suspended" }
      orderBy: [SCHEDULED_AT_DESC]
      first: 50
    ) {
      totalCount
      nodes {
        id
        status
        scheduledAt
        requestedBy @include(if: $asks)
        createdBy @include(if: $asks)
        reason @include(if: $asks)
        suspendedFor
        suspendedDetails @include(if: $asks)
        planId
        plan @include(if: $asks) {
          title
        }
        updates {
          enabled
          rolloutPercentage
        }
        flag {
          flagKey
          enabled
          rolloutPercentage
        }
      }
    }
  }
`);

export type Upcoming = ResultOf<typeof UPCOMING>['upcomingChanges'][number];
type Asked = ResultOf<typeof ASKED>;
export type Pending = NonNullable<Asked['pending']>['nodes'][number];
export type Failed = NonNullable<Asked['failed']>['nodes'][number];
export type Suspended = NonNullable<Asked['suspended']>['nodes'][number];
