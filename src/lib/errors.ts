import pg from 'pg';
import { readConflicts, type FoundConflict } from './conflicts.ts';
import { readCurrentRevision, type CurrentRevision } from './current_revision.ts';
import { isErrno, NETWORK_CODES } from './errno.ts';
import { shorten } from './printable.ts';

/** What a client gets of an error: an HTTP status, a stable code to act on, a sentence to read. */
export interface Problem {
  readonly status: number;
  readonly code: ProblemCode;
  readonly detail: string;
  /** The places where the input is wrong, for a client that shows them beside fields. */
  readonly errors?: readonly { readonly path: string; readonly message: string }[];
  /** The row as it is now, when the change was made against another revision. */
  readonly current?: CurrentRevision;
  /** The fields that aren't as the change expects, when that is why it wasn't made. */
  readonly conflicts?: readonly FoundConflict[];
}

/** Every code that a client can get, from REST and GraphQL; docs/errors.md explains each. Titles are for people. */
export const PROBLEMS = {
  invalid_request: { status: 400, title: 'The request is not valid' },
  invalid_json: { status: 400, title: 'The body is not valid JSON' },
  invalid_url: { status: 400, title: 'The address is not valid' },
  invalid_scheduled_at: { status: 400, title: 'scheduled_at is not a time with an offset' },
  scheduled_at_in_past: { status: 400, title: 'scheduled_at is not in the future' },
  scheduled_at_out_of_range: {
    status: 400,
    title: 'scheduled_at is missing or beyond the year 9999',
  },
  invalid_updates: { status: 400, title: 'updates is not valid' },
  invalid_plan: { status: 400, title: 'The plan is not valid' },
  invalid_value: { status: 400, title: 'A value is not allowed' },
  immutable_field: { status: 400, title: 'A field can’t be changed' },
  invalid_query: { status: 400, title: 'The GraphQL request is not valid' },
  token_missing: { status: 401, title: 'No token' },
  token_expired: { status: 401, title: 'The token has expired' },
  token_invalid: { status: 401, title: 'The token is not valid' },
  role_missing: { status: 403, title: 'The token names no role' },
  forbidden: { status: 403, title: 'Not allowed' },
  append_only: { status: 403, title: 'The audit trail can’t be changed' },
  not_found: { status: 404, title: 'There is nothing at this address' },
  environment_not_found: { status: 404, title: 'There is no such environment' },
  flag_not_found: { status: 404, title: 'There is no such flag' },
  schedule_not_found: { status: 404, title: 'There is no such schedule' },
  plan_not_found: { status: 404, title: 'There is no such plan' },
  event_not_found: { status: 404, title: 'There is no such sealed event' },
  method_not_allowed: { status: 405, title: 'The method is not allowed here' },
  not_acceptable: { status: 406, title: 'There is no such kind of answer here' },
  environment_exists: { status: 409, title: 'The environment exists' },
  flag_exists: { status: 409, title: 'The flag exists' },
  flag_changed: { status: 409, title: 'The flag has changed since' },
  schedule_changed: { status: 409, title: 'The schedule has changed since' },
  plan_changed: { status: 409, title: 'The plan has changed since' },
  schedule_not_pending: { status: 409, title: 'The schedule is not pending' },
  schedule_not_failed: { status: 409, title: 'The schedule has not failed' },
  schedule_not_suspended: { status: 409, title: 'The schedule is not suspended' },
  belongs_to_plan: { status: 409, title: 'The schedule belongs to a plan' },
  plan_state: { status: 409, title: 'The plan’s status doesn’t allow this' },
  environment_state: { status: 409, title: 'The environment is stopped already, or isn’t stopped' },
  change_conflict: { status: 409, title: 'A flag is not as the change expects' },
  nothing_to_revert: { status: 409, title: 'There is nothing to revert' },
  illegal_transition: { status: 409, title: 'The schedule can’t go to that status' },
  too_many_schedules: { status: 409, title: 'The flag has too many pending schedules' },
  change_refused: { status: 409, title: 'The database refuses this change' },
  history_purged: { status: 410, title: 'The trail of that time was purged' },
  body_too_large: { status: 413, title: 'The body is too large' },
  unsupported_media_type: { status: 415, title: 'The body is not JSON' },
  too_many_sockets: { status: 429, title: 'Too many WebSockets' },
  too_many_subscriptions: { status: 429, title: 'Too many subscriptions' },
  too_many_streams: { status: 429, title: 'Too many exports are open' },
  too_many_requests: { status: 429, title: 'Too many requests of this user wait here' },
  internal_error: { status: 500, title: 'Something went wrong here' },
  busy: { status: 503, title: 'Another change is in the way; try again' },
  timeout: { status: 503, title: 'It took too long; try again' },
  audit_unavailable: {
    status: 503,
    title: 'The audit trail can’t be written, and this server allows no change without it',
  },
  database_full: { status: 503, title: 'The database has no room left; try again later' },
  database_unavailable: { status: 503, title: 'The database can’t be reached; try again' },
  jwks_unavailable: {
    status: 503,
    title: 'The keys that tokens are checked with can’t be reached; try again',
  },
} as const satisfies Record<string, { status: number; title: string }>;

export type ProblemCode = keyof typeof PROBLEMS;

/** Which SQLSTATEs are which problem. ZF… are Halyard's own, raised in migrations/fixtures. */
const STATES_OF: Partial<Record<ProblemCode, string>> = {
  flag_not_found: 'ZF001',
  schedule_not_found: 'ZF002',
  schedule_not_pending: 'ZF003',
  illegal_transition: 'ZF004',
  scheduled_at_in_past: 'ZF005',
  scheduled_at_out_of_range: 'ZF006',
  invalid_updates: 'ZF007',
  schedule_not_failed: 'ZF008',
  append_only: 'ZF009',
  immutable_field: 'ZF010',
  audit_unavailable: 'ZF011',
  too_many_schedules: 'ZF013',
  flag_changed: 'ZF017',
  schedule_changed: 'ZF027',
  plan_not_found: 'ZF018',
  plan_state: 'ZF019',
  belongs_to_plan: 'ZF020',
  environment_state: 'ZF023',
  nothing_to_revert: 'ZF025',
  invalid_plan: 'ZF028',
  plan_changed: 'ZF029',
  change_conflict: 'ZF030',
  schedule_not_suspended: 'ZF031',
  environment_not_found: 'ZF014 23503',
  forbidden: 'ZF015 42501',
  history_purged: 'ZF026',
  // A trigger of the database's administrator: ours all raise codes of their own.
  change_refused: 'P0001',
  flag_exists: '23505',
  invalid_value: '22001 22003 22007 22008 22009 22021 22023 22P02 22P05 23502 23514',
  busy: '40001 40P01 55P03',
  timeout: '57014 25P03',
  // Class 53: disk, memory or another resource is used up.
  database_full: '53000 53100 53200 53400',
  // A standby that a failover has left us with (25006), too many connections, a disk or an operating system that fails, a shutdown.
  database_unavailable: '25006 53300 58000 58030 57P01 57P02 57P03',
};

export const SQLSTATES = Object.fromEntries(
  Object.entries(STATES_OF).flatMap(([code, states]) =>
    states.split(' ').map((state) => [state, code]),
  ),
) as Readonly<Record<string, ProblemCode>>;

/** Violations of constraints: one that isn't in the table below is our defect, not the client's. */
const VIOLATIONS: ReadonlySet<string> = new Set(['23503', '23505', '23514']);

const NAME_RULE =
  'must begin with a letter or digit and have only letters, digits, dots, hyphens and underscores.';

const LONG_REASON = 'reason may have 500 characters at most.';
const REASON_RULE = 'reason must be text of 500 characters at most, without control characters.';
const SAME_KEY = 'There is a flag with this key in this environment.';

/** The problem for each violated constraint. A flag's fields are missing here: FLAG_FIELDS is checked before. */
const CONSTRAINTS: Readonly<Record<string, Problem>> = {
  feature_flags_flag_key_check: problem('invalid_value', `flag_key ${NAME_RULE}`),
  feature_flags_environment_check: problem('invalid_value', `environment ${NAME_RULE}`),
  // Deleted since the flag's stamp looked, which names those that there are.
  feature_flags_environment_fkey: problem('environment_not_found', 'There is no such environment.'),
  // Deleted in SQL since schedule_flag_change() looked.
  feature_flag_schedules_flag_id_fkey: problem('flag_not_found', 'There is no such flag.'),
  environments_name_check: problem('invalid_value', `name ${NAME_RULE}`),
  environments_pkey: problem('environment_exists', 'There is an environment with this name.'),
  feature_flag_schedules_cancel_reason_check: problem('invalid_value', LONG_REASON),
  feature_flag_schedules_reason_check: problem('invalid_value', REASON_RULE),
  plans_title_check: problem('invalid_plan', 'title must have 1 to 200 characters.'),
  feature_flags_environment_flag_key_key: problem('flag_exists', SAME_KEY),
};

/** Characters of the database's message: a stranger's trigger may raise a text of any length. */
const MAX_MESSAGE = 1_000;

const MASKED = problem(
  'internal_error',
  'Something went wrong here. The log has it under this request’s id.',
);

/** What a client gets in place of the database's message, where that doesn't help or discloses too much: by code, or by SQLSTATE. */
const MESSAGES: Partial<Record<string, string>> = {
  '42501': 'This takes the token of an admin of this environment.',
  audit_unavailable: 'The audit trail can’t be written, so nothing was changed. Try again later.',
  database_full:
    'The database’s server has no disk or memory left for this, so nothing was changed. Try again later.',
};

/** PostgreSQL's C function that checks new rows against policies: since 9.5 the only place that raises such a violation. */
const POLICY_CHECK = 'ExecWithCheckOptions';
/** The one of PL/pgSQL's RAISE, as against errors that PostgreSQL itself reports. */
const RAISE = 'exec_stmt_raise';
/** The first line of an error's context names the function that raised it. */
const OWN_FUNCTION = /^[^\n]*\b(app_private|app_public|audit)\.\w+\(/;

/**
 * Whether the database denied something (42501): a policy, a missing grant, a file that the server may not read, a trigger of a
 * stranger's. Its message is in the server's language.
 */
export function isDenial(error: unknown): error is pg.DatabaseError {
  return error instanceof pg.DatabaseError && error.code === '42501';
}

/** An error that already has what the client gets. */
export class ProblemError extends Error {
  override readonly name = 'ProblemError';
  readonly problem: Problem;

  /** @param options.status another than the code's usual one */
  constructor(
    code: ProblemCode,
    detail: string,
    options?: ErrorOptions & Partial<Pick<Problem, 'errors' | 'status'>>,
  ) {
    super(detail, options);
    const { errors, status } = options ?? {};
    this.problem = {
      ...problem(code, detail),
      ...(errors && { errors }),
      ...(status && { status }),
    };
  }
}

/**
 * What a client gets of an error: of a ProblemError, of the database's, or of one with a `code` of PROBLEMS. Any other is
 * masked as internal_error, and the caller logs it with the request's id.
 */
export function problemOf(error: unknown): Problem {
  if (error instanceof ProblemError) return error.problem;
  if (error instanceof pg.DatabaseError) return fromDatabaseError(error);
  if (!isErrno(error)) return MASKED;
  if (isProblemCode(error.code)) return problem(error.code, error.message);
  if (!NETWORK_CODES.has(error.code)) return MASKED;
  return problem('database_unavailable', 'The database can’t be reached now: try again.');
}

function fromDatabaseError(error: pg.DatabaseError): Problem {
  const { code: state = '', constraint = '', routine, message } = error;
  const violated = CONSTRAINTS[constraint];
  if (violated !== undefined && routine !== RAISE) return violated;
  const code = state.startsWith('08') ? 'database_unavailable' : SQLSTATES[state];
  if (code === undefined || VIOLATIONS.has(state))
    return isRaisedByOthers(error) ? refusal(message) : MASKED;
  if (code === 'change_refused') return refusal(message);
  // A policy refuses a new row. Of any other denial the caller of the database must say whose fault it is (auth/rights.ts).
  if (state === '42501' && routine !== POLICY_CHECK) return MASKED;
  // Halyard's own errors are written for clients, and so is what PostgreSQL says about a value.
  const own = state.startsWith('ZF') || code === 'invalid_value';
  const sentence = own ? shorten(message, MAX_MESSAGE) : `${PROBLEMS[code].title}.`;
  const more = {
    ...readCurrentRevision(code, error.detail),
    ...readConflicts(code, error.detail),
  };
  return { ...problem(code, MESSAGES[state] ?? MESSAGES[code] ?? sentence), ...more };
}

/** Whether a function that isn't Halyard's raised the error itself: an administrator's trigger that refuses a change. */
function isRaisedByOthers({ routine, where = '' }: pg.DatabaseError): boolean {
  return routine === RAISE && !OWN_FUNCTION.test(where);
}

/** @param text of an administrator's trigger: of any length, or none */
function refusal(text: string): Problem {
  const { title } = PROBLEMS.change_refused;
  return problem('change_refused', shorten(text, MAX_MESSAGE).trim() || `${title}.`);
}

function problem(code: ProblemCode, detail: string): Problem {
  return { status: PROBLEMS[code].status, code, detail };
}

/** Whether a value is one of the codes that a client can get. */
export function isProblemCode(code: unknown): code is ProblemCode {
  return typeof code === 'string' && Object.hasOwn(PROBLEMS, code);
}
