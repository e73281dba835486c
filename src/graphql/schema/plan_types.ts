import { gql } from 'postgraphile/utils';

/** The fields and types of plans.ts. */
export const PLAN_TYPES = gql`
  extend type Plan {
    "When its changes are due; null for a plan that was due when it was made."
    startsAt: Datetime
    "What it does."
    steps: [PlanStep!]!
    "SHA-256 of what it does and when, in hexadecimal."
    contentHash: String!
    "The environments of the flags that it changes."
    environments: [String!]!
    "Why its open point is suspended: stop (an environment of it is stopped) or conflict (a flag isn't as a change expects). Null when it isn't."
    suspendedFor: String
    "What stands against its changes, while they are still to come."
    conflicts: [ChangeConflict!]!
  }

  "Changes that are made at one instant, all or nothing."
  type PlanStep {
    "The changes, each of another flag."
    changes: [PlanChange!]!
  }

  "A change of a flag."
  type PlanChange {
    "The flag's key."
    flagKey: String!
    "The flag's environment."
    environment: String!
    "What it changes; a field that it leaves alone is null."
    updates: FlagUpdates!
    "What its author expects to find in the flag; a field that doesn't matter is null, and null is anything."
    expects: FlagUpdates
    "What happens where something else is found: overwrite, keep or suspend."
    onConflict: String!
    "The schedule that makes the change, the last one where there are several."
    schedule: FeatureFlagSchedule
  }

  "What stands against a change that is to come."
  type ChangeConflict {
    "The flag's key."
    flagKey: String!
    "The flag's environment."
    environment: String!
    "The field, by the name of its column."
    field: String!
    "expectation: the field will have another value than is expected. same_instant: another change of the field is for the same time."
    kind: String!
    "The value that is expected."
    expected: JSON
    "The value that will be there."
    found: JSON
    "When the two meet."
    at: Datetime!
    "The schedule that is the cause; null where a person is, or the token doesn't reach it."
    scheduleId: UUID
    "The plan of that schedule."
    planId: UUID
  }

  "A flag before and after changes: all fields that schedules may change."
  type FlagDiff {
    "The flag's key."
    flagKey: String!
    "The flag's environment."
    environment: String!
    "What it is before."
    before: FlagUpdates!
    "What it is after."
    after: FlagUpdates!
  }

  extend type FeatureFlagSchedule {
    "What stands against it while it is pending or suspended. For admins and auditors."
    conflicts: [ChangeConflict!]!
  }

  extend type ChangeFlagsPayload {
    "The plan that made the changes."
    plan: Plan
    "Each flag before and after."
    changes: [FlagDiff!]!
  }

  extend type Mutation {
    """
    What a revert would do if it were applied now; nothing is written. Of a plan, of a schedule, or of what was changed in an environment
    in a span of time.
    """
    dryRunRevert("What to revert, and how." input: DryRunRevertInput!): DryRunRevertPayload
  }

  "All input for the \`dryRunRevert\` mutation: a plan, a schedule, or an environment with a span."
  input DryRunRevertInput {
    "An arbitrary string value with no semantic meaning. Will be included in the payload verbatim. May be used to track mutations by the client."
    clientMutationId: String
    "The plan whose changes to take back."
    planId: UUID
    "The applied schedule whose change to take back."
    scheduleId: UUID
    "The environment whose changes to take back."
    environment: String
    "From this time on."
    from: Datetime
    "Before this time."
    to: Datetime
    "Only of the flags with these keys."
    flags: [String!]
    "When, a time in the future; now unless given."
    at: Datetime
    "As revertPlan has it: keep unless given."
    onConflict: String
  }

  "The output of our \`dryRunRevert\` mutation."
  type DryRunRevertPayload {
    "The exact same \`clientMutationId\` that was provided in the mutation input, unchanged and unused. May be used by a client to track mutations."
    clientMutationId: String
    "What would happen."
    dryRun: DryRun
  }
`;
