import { graphql } from '../data/documents.ts';

// One environment over a span, by three queries: the server answers 10,000 rows a query.

/** States at the beginning, and what happened since. */
export const PAST = graphql(`
  query Past($environment: String!, $from: Datetime!, $to: Datetime!) {
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
      deleted
      wasEnabled
      wasRolloutPercentage
      scheduleId
    }
  }
`);

/** What will happen, by the rule that applies it. */
export const AHEAD = graphql(`
  query Ahead($environment: String!, $from: Datetime!, $to: Datetime!) {
    upcomingChanges(environment: $environment, from: $from, to: $to, first: 10000) {
      at
      flagKey
      scheduleId
      planId
      enabled
      rolloutPercentage
      certain
      inConflict
    }
  }
`);

/** All schedules of the span, also those that were cancelled or failed. */
export const SCHEDULES = graphql(`
  query Schedules($environment: String!, $from: Datetime!, $to: Datetime!) {
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
      planId
    }
  }
`);

/** What the plans of an environment are called: of the latest hundred. Viewers read no plans. */
export const PLAN_TITLES = graphql(`
  query PlanTitles($environment: String!) {
    plans(condition: { environment: $environment }, orderBy: [CREATED_AT_DESC], first: 100) {
      nodes {
        id
        title
      }
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
