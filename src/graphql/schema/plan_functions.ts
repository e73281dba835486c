/** The functions of app_public behind the fields of plans.ts; exposure.ts keeps PostGraphile from showing them by itself. */
export const PLAN_FUNCTIONS = ['plan_conflicts', 'schedule_conflicts', 'dry_run_revert'];
