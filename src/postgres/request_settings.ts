import type { Claims } from '../auth/claims.ts';
import type { Statement } from './pipeline.ts';

/** The token is good, but names no role that may do anything: 403. */
export class NoRoleError extends Error {
  override readonly name = 'NoRoleError';
  readonly status = 403;
  readonly code = 'role_missing';

  constructor() {
    super('Ask for a token with the role admin, auditor or viewer: this one has none of them.');
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
] as const;

/** The ids of a request: the API's own, and the one that its client gave it, if any. */
export interface RequestIds {
  readonly requestId: string;
  readonly clientRequestId?: string | undefined;
}

export type Settings = Readonly<Record<(typeof SETTINGS)[number], string>>;

/**
 * The settings of a request's transaction, for GraphQL and REST both. '' means unknown, and all environments. Statement
 * timeouts are settings of the roles, not of this.
 *
 * @throws NoRoleError when the claims have no role, so that nothing runs as the login itself
 */
export function pgSettings(claims: Claims, request: RequestIds): Settings {
  if (claims.role === null) throw new NoRoleError();
  return { ...loginSettings(claims, request), role: `halyard_${claims.role}` };
}

/** The same for a transaction of the login itself, which may do very little, for a request whose token may have no role. */
export function loginSettings(
  claims: Claims,
  { requestId, clientRequestId }: RequestIds,
): Settings {
  return {
    role: 'none',
    'jwt.claims.user_id': claims.userId ?? '',
    'jwt.claims.email': claims.email ?? '',
    'jwt.claims.role': claims.role ?? '',
    'jwt.claims.environments':
      claims.environments === null ? '' : JSON.stringify(claims.environments),
    'halyard.request_id': requestId,
    'halyard.client_request_id': clientRequestId ?? '',
  };
}

const SET = `select ${SETTINGS.map((name, i) => `set_config('${name}', $${i + 1}, true)`).join(', ')}`;

/** Sets the settings until the end of the transaction. */
export function setStatement(settings: Settings): Statement {
  return { name: 'settings', text: SET, values: SETTINGS.map((name) => settings[name]) };
}
