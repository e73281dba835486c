import { userKey, type Claims } from '../auth/claims.ts';
import type { Asker } from '../lib/fair_queue.ts';
import type { Statement } from './pipeline.ts';

/** The token is good, but names no role that may do anything: 403. */
export class NoRoleError extends Error {
  override readonly name = 'NoRoleError';
  readonly status = 403;
  readonly code = 'role_missing';

  constructor({ roleProblem }: Pick<Claims, 'roleProblem'> = {}) {
    super(
      roleProblem ??
        'Ask for a token with the role admin, auditor or viewer: this one has none of them.',
    );
  }
}

/** The settings of one transaction, which migrations/fixtures/platform/claims.sql reads: who asks, and in which role. */
const SETTINGS = [
  'role',
  'jwt.claims.user_id',
  'jwt.claims.email',
  'jwt.claims.role',
  'jwt.claims.environments',
  'halyard.request_id',
  'halyard.client_request_id',
  'halyard.reason',
  'halyard.expected_revision',
] as const;

/** The setting that says why a change is made. */
export const REASON = 'halyard.reason';

/** The setting with the revision that the row of a change must have. */
export const EXPECTED_REVISION = 'halyard.expected_revision';

/** The ids of a request: the API's own, and the one that its client gave it, if any. */
export interface RequestIds {
  readonly requestId: string;
  readonly clientRequestId?: string | undefined;
}

/** Under this key the settings carry who asks for the connection. A symbol: neither a statement nor JSON text has it. */
export const ASKER = Symbol('asker');

/** What a client says of a change beside the change itself. */
export interface ChangeOptions {
  /** Why it makes the change, if it says so. */
  readonly reason?: string | null | undefined;
  /** The revision of the row that it made the change against: of another one, nothing is changed. */
  readonly expectedRevision?: number | undefined;
}

/** How a request waits for a connection. */
export type Asking = Partial<Omit<Asker, 'user'>>;

export type Settings = Readonly<Record<(typeof SETTINGS)[number], string>> & {
  readonly [ASKER]: Asker;
};

/**
 * The settings of a request's transaction, for GraphQL and REST both. '' means unknown, and all environments. Statement
 * timeouts are settings of the roles, not of this.
 *
 * @param asking how the request waits for a connection; by default its turn comes in any case
 * @param change.reason why the client makes a change, if it says so: at most 500 characters
 * @param change.expectedRevision the revision that the row must have, if the client says so
 * @throws NoRoleError when the claims have no role, so that nothing runs as the login itself
 */
export function pgSettings(
  claims: Claims,
  request: RequestIds,
  asking: Asking = {},
  { reason, expectedRevision }: ChangeOptions = {},
): Settings {
  if (claims.role === null) throw new NoRoleError(claims);
  return {
    ...loginSettings(claims, request),
    [ASKER]: { user: userKey(claims), ...asking },
    role: `halyard_${claims.role}`,
    [REASON]: reason ?? '',
    [EXPECTED_REVISION]: expectedRevision?.toString() ?? '',
  };
}

/** The settings for a transaction of the login itself, which may do very little, when the token may have no role. It has its own share. */
export function loginSettings(
  claims: Claims,
  { requestId, clientRequestId }: RequestIds,
): Settings {
  return {
    [ASKER]: { user: 'login' },
    role: 'none',
    'jwt.claims.user_id': claims.userId ?? '',
    'jwt.claims.email': claims.email ?? '',
    'jwt.claims.role': claims.role ?? '',
    'jwt.claims.environments':
      claims.environments === null ? '' : JSON.stringify(claims.environments),
    'halyard.request_id': requestId,
    'halyard.client_request_id': clientRequestId ?? '',
    [REASON]: '',
    [EXPECTED_REVISION]: '',
  };
}

const SET = `select ${SETTINGS.map((name, i) => `set_config('${name}', $${i + 1}, true)`).join(', ')}`;

/** Sets the settings until the end of the transaction. */
export function setStatement(settings: Settings): Statement {
  return { name: 'settings', text: SET, values: SETTINGS.map((name) => settings[name]) };
}
