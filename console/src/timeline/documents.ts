import { graphql } from '../data/documents.ts';

/** All of one environment over a span: states at its beginning, what happened, and what will, by the rule that applies it. */
export const TIMELINE = graphql(`
  query Timeline($environment: String!, $from: Datetime!, $to: Datetime!, $ahead: Datetime!) {
    flagStateAt(environment: $environment, at: $from) {
      flagKey
      enabled
      rolloutPercentage
    }
    flagChanges(environment: $environment, from: $from, to: $to, first: 10000) {
      at
      flagKey
      enabled
      rolloutPercentage
      wasEnabled
      wasRolloutPercentage
      scheduleId
    }
    upcomingChanges(environment: $environment, from: $ahead, to: $to, first: 10000) {
      at
      flagKey
      updates {
        enabled
        rolloutPercentage
      }
      scheduleId
      enabled
      rolloutPercentage
    }
    schedulesBetween(environment: $environment, from: $from, to: $to, first: 10000) {
      id
      flagKey
      at
      updates {
        enabled
        rolloutPercentage
      }
      status
      appliedAt
    }
  }
`);

/** The strip above: how much happens on which day. */
export const OVERVIEW = graphql(`
  query Overview($environment: String!, $from: Datetime!, $to: Datetime!, $zone: String!) {
    changesPerDay(environment: $environment, from: $from, to: $to, zone: $zone) {
      day
      changes
      failed
      pending
    }
  }
`);
