import { gql } from 'postgraphile/utils';

/** The fields and types of states.ts. */
export const STATE_TYPES = gql`
  extend type Query {
    """
    The state of every flag of an environment at a time, by key, at most 10,000: of the past as the trail has it, of the future as the
    pending schedules will make it. A flag that didn't exist then isn't in it.
    """
    flagStateAt("The environment." environment: String!, "The time." at: Datetime!): [FlagState!]!

    "The changes that the pending schedules will make, in the order in which they come."
    upcomingChanges(
      "The environment."
      environment: String!
      "From this time on. For what is overdue, and so comes at once: a time that has passed."
      from: Datetime!
      "Before this time, 400 days after the other at most."
      to: Datetime!
      "How many, 10,000 at most."
      first: Int! = 100
    ): [UpcomingChange!]!

    "The changes of state that flags had, oldest first, from the trail. For every role."
    flagChanges(
      "The environment."
      environment: String!
      "From this time on."
      from: Datetime!
      "Before this time."
      to: Datetime!
      "Only of the flag with this key."
      flagKey: String
      "How many, 10,000 at most."
      first: Int! = 1000
    ): [FlagChange!]!

    "The schedules for a span of time, by that time, of every status."
    schedulesBetween(
      "The environment."
      environment: String!
      "From this time on."
      from: Datetime!
      "Before this time."
      to: Datetime!
      "Only of the flag with this key."
      flagKey: String
      "How many, 10,000 at most."
      first: Int! = 1000
    ): [ScheduleMark!]!

    "How much happened, and is to happen, on each day of a span of time."
    changesPerDay(
      "The environment."
      environment: String!
      "From this time on."
      from: Datetime!
      "Before this time, 400 days after the other at most."
      to: Datetime!
      "The time zone of the days, such as Europe/Zurich."
      zone: String! = "UTC"
    ): [ChangesOfDay!]!
  }

  "The state of a flag at a time."
  type FlagState {
    "The flag's key."
    flagKey: String!
    "The flag's id."
    flagId: UUID
    "Whether it is on."
    enabled: Boolean!
    "The share of users that get the feature, 0 to 100."
    rolloutPercentage: Int!
    "Whether nothing is in the way: false when a schedule of the flag is overdue, or what the trail says isn't enough."
    certain: Boolean!
    "What decides: of the past the event, of the future the schedule for each field that one will have changed."
    sources: JSON!
  }

  "A change that a pending schedule will make."
  type UpcomingChange {
    "When it comes: the schedule's time, the time of its next attempt, or now for what is overdue."
    at: Datetime!
    "The flag's key."
    flagKey: String!
    "What it changes."
    updates: FlagUpdates!
    "The schedule."
    scheduleId: UUID
    "The plan that the schedule belongs to; null for a schedule of its own."
    planId: UUID
    "The number of the plan's occurrence."
    occurrenceNo: Int
    "The number of the occurrence's step."
    stepNo: Int
    "The schedule's status."
    status: String!
    "Whether the flag is on after it."
    enabled: Boolean!
    "The flag's share of users after it, 0 to 100."
    rolloutPercentage: Int!
    "False when the change may not come, or not then: of a stopped environment, or beside another one of the field at that instant."
    certain: Boolean!
    "Whether the flag won't be as the change expects."
    inConflict: Boolean!
  }

  "A change of a flag's state that was made."
  type FlagChange {
    "When."
    at: Datetime!
    "The flag's key."
    flagKey: String!
    "Whether the flag is on after it."
    enabled: Boolean!
    "The flag's share of users after it, 0 to 100."
    rolloutPercentage: Int!
    "Whether the flag was on before it; null when it was created."
    wasEnabled: Boolean
    "The flag's share of users before it; null when it was created."
    wasRolloutPercentage: Int
    "The schedule that made it; null when a person did."
    scheduleId: UUID
    "Whether the flag was deleted; it is off then."
    deleted: Boolean!
  }

  "A schedule, as a mark on a line of time."
  type ScheduleMark {
    "The schedule's id."
    id: UUID!
    "The flag's key."
    flagKey: String!
    "The time that it is scheduled for."
    at: Datetime!
    "What it changes."
    updates: FlagUpdates!
    "Its status: pending, suspended, applied, failed, cancelled or skipped."
    status: String!
    "When it was applied."
    appliedAt: Datetime
    "When it was cancelled."
    cancelledAt: Datetime
    "The plan that it belongs to; null for a schedule of its own."
    planId: UUID
  }

  "A day, with how much happened on it."
  type ChangesOfDay {
    "The day of the zone, as 2030-01-31."
    day: String!
    "How many changes of state flags had."
    changes: Int!
    "How many schedules for this day failed."
    failed: Int!
    "How many schedules for this day are pending."
    pending: Int!
  }

  extend type FeatureFlag {
    "The pending schedule that comes first, by its time and then its id."
    nextSchedule: FeatureFlagSchedule
    "The last change of the flag that the trail has; null when it has none."
    lastChange: FlagLastChange
  }

  "The last change of a flag."
  type FlagLastChange {
    "When."
    at: Datetime!
    "Who wanted it: the admin who made it, or scheduled what made it; the login that made it in SQL. Null for viewers, and when unknown."
    by: String
    "What happened, as feature_flag.updated."
    eventType: String!
    "The schedule that made it; null when a person did."
    scheduleId: UUID
    "Why, as they said; null for viewers, and without a reason."
    reason: String
  }
`;
