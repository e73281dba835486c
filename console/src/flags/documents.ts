import { graphql } from '../data/documents.ts';

/** A page of flags by their keys. */
export const FLAGS = graphql(`
  query FlagsPage(
    $environment: String!
    $text: String
    $enabled: Boolean
    $after: Cursor
    $asks: Boolean!
  ) {
    featureFlags(
      condition: { environment: $environment, flagKeyContains: $text, enabled: $enabled }
      orderBy: [FLAG_KEY_ASC]
      first: 100
      after: $after
    ) {
      totalCount
      nodes {
        id
        flagKey
        environment
        enabled
        rolloutPercentage
        createdAt
        lastChange {
          at
          by @include(if: $asks)
        }
        nextSchedule {
          id
          status
          scheduledAt
          attempts
          updates {
            enabled
            rolloutPercentage
          }
        }
      }
      pageInfo {
        hasNextPage
        endCursor
      }
    }
  }
`);

/** What needs someone and what comes next in an environment, with the flags; and how many flags there are. */
export const AHEAD = graphql(`
  query FlagsAhead($environment: String!, $since: Datetime!, $asks: Boolean!) {
    all: featureFlags(condition: { environment: $environment }, first: 0) {
      totalCount
    }
    failed: featureFlagSchedules(
      condition: { environment: $environment, status: "failed", scheduledFrom: $since }
      orderBy: [SCHEDULED_AT_DESC]
      first: 100
    ) {
      nodes {
        id
        status
        scheduledAt
        attempts
        updates {
          enabled
          rolloutPercentage
        }
        flag {
          id
          flagKey
          environment
          enabled
          rolloutPercentage
          createdAt
          lastChange {
            at
            by @include(if: $asks)
          }
        }
      }
    }
    suspended: featureFlagSchedules(
      condition: { environment: $environment, status: "suspended" }
      orderBy: [SCHEDULED_AT_DESC]
      first: 100
    ) {
      nodes {
        id
        status
        scheduledAt
        attempts
        suspendedFor
        updates {
          enabled
          rolloutPercentage
        }
        flag {
          id
          flagKey
          environment
          enabled
          rolloutPercentage
          createdAt
          lastChange {
            at
            by @include(if: $asks)
          }
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
        status
        scheduledAt
        attempts
        updates {
          enabled
          rolloutPercentage
        }
        flag {
          id
          flagKey
          environment
          enabled
          rolloutPercentage
          createdAt
          lastChange {
            at
            by @include(if: $asks)
          }
        }
      }
    }
  }
`);
