/** Exit statuses of the commands. Apart from what else ends a command (audit/exit_with.ts), which loads the log's library. */
export const FOUND_PROBLEMS = 1;
export const BAD_ARGUMENTS = 2;
export const NOT_CHECKED = 3;
