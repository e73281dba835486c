import { graphql } from '../data/documents.ts';

/** One flag: what it is now, what is pending, what failed. Viewers get no persons and no reasons, as the page asks for none. */
export const FLAG = graphql(`
  query Flag($environment: String!, $flagKey: String!, $asks: Boolean!) {
    featureFlagByEnvironmentAndFlagKey(environment: $environment, flagKey: $flagKey) {
      id
      flagKey
      environment
      description
      enabled
      rolloutPercentage
      revision
      createdAt
      lastChange {
        at
        by @include(if: $asks)
        eventType
        scheduleId
        reason @include(if: $asks)
      }
      pending: schedules(
        condition: { status: "pending" }
        orderBy: [SCHEDULED_AT_ASC]
        first: 100
      ) {
        totalCount
        nodes {
          id
          status
          scheduledAt
          createdAt
          createdBy @include(if: $asks)
          requestedBy @include(if: $asks)
          reason @include(if: $asks)
          attempts
          maxAttempts
          nextAttemptAt
          errorMessage @include(if: $asks)
          planId
          plan @include(if: $asks) {
            title
          }
          updates {
            enabled
            rolloutPercentage
          }
        }
      }
      suspended: schedules(
        condition: { status: "suspended" }
        orderBy: [SCHEDULED_AT_ASC]
        first: 20
      ) {
        nodes {
          id
          status
          scheduledAt
          createdBy @include(if: $asks)
          requestedBy @include(if: $asks)
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
        }
      }
      failed: schedules(condition: { status: "failed" }, orderBy: [SCHEDULED_AT_DESC], first: 20) {
        nodes {
          id
          scheduledAt
        }
      }
    }
  }
`);

/** Where else there is a flag of this key. */
export const EVERYWHERE = graphql(`
  query Everywhere($flagKey: String!) {
    featureFlags(condition: { flagKey: $flagKey }, first: 100) {
      nodes {
        id
        environment
        enabled
        rolloutPercentage
        lastChange {
          at
        }
      }
    }
  }
`);

/** What happened to the flag over a span, and all schedules for it. */
export const FLAG_SPAN = graphql(`
  query FlagSpan(
    $environment: String!
    $flagKey: String!
    $from: Datetime!
    $to: Datetime!
    $first: Int!
  ) {
    flagChanges(environment: $environment, flagKey: $flagKey, from: $from, to: $to, first: $first) {
      at
      flagKey
      enabled
      rolloutPercentage
      deleted
      wasEnabled
      wasRolloutPercentage
      scheduleId
    }
    schedulesBetween(
      environment: $environment
      flagKey: $flagKey
      from: $from
      to: $to
      first: $first
    ) {
      id
      flagKey
      at
      updates {
        enabled
        rolloutPercentage
      }
      status
      appliedAt
      planId
    }
  }
`);

/** The flag's part of the trail, newest first. */
export const FLAG_EVENTS = graphql(`
  query FlagEvents($environment: String!, $flagKey: String!, $first: Int!) {
    auditEvents(
      condition: { environment: $environment, flagKey: $flagKey }
      orderBy: [OCCURRED_AT_DESC]
      first: $first
    ) {
      nodes {
        id
        eventType
        occurredAt
        actorKind
        adminEmail
        adminUserId
        databaseUser
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
