import { REASON_DESCRIPTION as REASON } from './reasons.ts';

const REQUIRED_REASON = 'Why, for the trail: 1 to 500 characters, without control characters.';

const PLAN = {
  title: 'What the plan is called: 1 to 200 characters.',
  steps: 'What it changes: one step, with 1 to 200 changes.',
  startsAt: 'When, a time in the future; now unless given.',
  reason: REASON,
};

const REVERT = {
  at: 'When, a time in the future; now unless given.',
  onConflict:
    'What happens to fields that were changed since: keep leaves them, overwrite sets them all the same, suspend waits for an admin. keep unless given.',
  reason: REASON,
};

const MISSED = {
  missed: 'What is done with what came due meanwhile: apply or skip.',
  except: 'The schedules with which the other is done; one of a plan stands for all of its point.',
};

const EDIT = {
  ...PLAN,
  id: 'The plan to change.',
  startsAt: 'Its new time, in the future.',
};

/** PostgreSQL has no comments on the arguments of functions. */
export const ARGUMENTS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  CreateEnvironmentInput: {
    name: 'Its name: 1 to 20 letters, digits, dots, hyphens or underscores.',
  },
  ScheduleFlagChangeInput: {
    flagKey: 'The key of the flag to change.',
    environment: 'The flag’s environment; production unless given.',
    scheduledAt: 'When to change it: a time in the future.',
    updates: 'What to change: at least one field.',
    reason: REASON,
  },
  CancelFlagScheduleInput: { id: 'The schedule to cancel.', reason: REASON },
  RescheduleFlagChangeInput: {
    id: 'The schedule to move.',
    scheduledAt: 'Its new time, in the future.',
    reason: REASON,
  },
  RetryFlagScheduleInput: { id: 'The schedule that failed.', reason: REASON },
  CreatePlanInput: PLAN,
  EditPlanInput: EDIT,
  CancelPlanInput: { id: 'The plan to cancel.', reason: REASON },
  RetryPlanInput: { id: 'The plan whose changes failed.', reason: REASON },
  ChangeFlagsInput: { changes: 'The changes, 1 to 200, each flag once.', reason: REASON },
  DryRunPlanInput: PLAN,
  DryRunEditInput: EDIT,
  DryRunResumeInput: { environment: 'The environment that is stopped.', ...MISSED },
  RevertPlanInput: { id: 'The plan whose changes to take back.', ...REVERT },
  RevertScheduleInput: { id: 'The applied schedule whose change to take back.', ...REVERT },
  RevertSpanInput: {
    environment: 'The environment whose changes to take back.',
    from: 'From this time on.',
    to: 'Before this time.',
    flags: 'Only of the flags with these keys.',
    ...REVERT,
  },
  StopEnvironmentInput: { name: 'The environment to stop.', reason: REQUIRED_REASON },
  ResumeEnvironmentInput: {
    name: 'The environment that is stopped.',
    ...MISSED,
    reason: REQUIRED_REASON,
  },
  ResumeScheduleInput: {
    id: 'The schedule that is suspended; one of a plan stands for all of its point.',
    reason: REQUIRED_REASON,
  },
};
