import type { ResultOf } from 'gql.tada';
import { graphql } from '../data/documents.ts';

/** Every flag of an environment at an instant. */
export const STATE_AT = graphql(`
  query StateAt($environment: String!, $at: Datetime!) {
    flagStateAt(environment: $environment, at: $at) {
      flagKey
      enabled
      rolloutPercentage
      certain
      sources
    }
  }
`);

/** The states of a while ago and what happened since: so the answer to one question stays right as things change. */
export const STATE_NOW = graphql(`
  query StateNow($environment: String!, $from: Datetime!, $to: Datetime!) {
    flagStateAt(environment: $environment, at: $from) {
      flagKey
      enabled
      rolloutPercentage
    }
    flagChanges(environment: $environment, from: $from, to: $to, first: 1000) {
      flagKey
      enabled
      rolloutPercentage
      deleted
    }
  }
`);

/** Who asked for the schedules that decide. Viewers get no persons and no reasons, as the page asks for none. */
export const DECIDERS = graphql(`
  query Deciders($environment: String!, $from: Datetime!, $to: Datetime!) {
    featureFlagSchedules(
      condition: {
        environment: $environment
        status: "pending"
        scheduledFrom: $from
        scheduledBefore: $to
      }
      orderBy: [SCHEDULED_AT_DESC]
      first: 100
    ) {
      nodes {
        id
        requestedBy
        createdBy
        reason
        plan {
          title
        }
      }
    }
  }
`);

/** The first change that comes. */
export const CHANGE_BEHIND = graphql(`
  query ChangeBehind($environment: String!, $from: Datetime!, $to: Datetime!) {
    upcomingChanges(environment: $environment, from: $from, to: $to, first: 10) {
      at
    }
  }
`);

/** All that is scheduled in a span. */
export const CHANGES_AHEAD = graphql(`
  query ChangesAhead($environment: String!, $from: Datetime!, $to: Datetime!) {
    upcomingChanges(environment: $environment, from: $from, to: $to, first: 10000) {
      at
    }
  }
`);

/** On which days something changed. */
export const CHANGE_DAYS = graphql(`
  query ChangeDays($environment: String!, $from: Datetime!, $to: Datetime!) {
    changesPerDay(environment: $environment, from: $from, to: $to) {
      day
      changes
    }
  }
`);

/** The changes of a day. */
export const CHANGES = graphql(`
  query ChangesOf($environment: String!, $from: Datetime!, $to: Datetime!) {
    flagChanges(environment: $environment, from: $from, to: $to, first: 10000) {
      at
    }
  }
`);

export type StateAt = ResultOf<typeof STATE_AT>['flagStateAt'];
export type NowFacts = ResultOf<typeof STATE_NOW>;
