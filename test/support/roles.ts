import type pg from 'pg';

/** What a request's token says; what is left out is unknown. */
export interface TestClaims {
  readonly userId?: string;
  readonly email?: string;
  readonly environments?: readonly string[];
  readonly requestId?: string;
  readonly clientRequestId?: string;
  readonly reason?: string;
}

export type ApiRole = 'admin' | 'viewer' | 'auditor';

/**
 * Becomes an API role with claims, as the API does, for the rest of the transaction: the authenticator's session, as the trail
 * believes claims of no other. The connection must be the authenticator's or an administrator's.
 */
export async function become(
  client: pg.ClientBase,
  role: ApiRole,
  claims: TestClaims = {},
): Promise<void> {
  await client.query(
    `select
      set_config('session_authorization', 'halyard_authenticator', true),
      set_config('role', $1, true),
      set_config('jwt.claims.role', $2, true),
      set_config('jwt.claims.user_id', $3, true),
      set_config('jwt.claims.email', $4, true),
      set_config('jwt.claims.environments', $5, true),
      set_config('halyard.request_id', $6, true),
      set_config('halyard.client_request_id', $7, true),
      set_config('halyard.reason', $8, true)`,
    [
      `halyard_${role}`,
      role,
      claims.userId ?? '',
      claims.email ?? '',
      claims.environments === undefined ? '' : JSON.stringify(claims.environments),
      claims.requestId ?? '',
      claims.clientRequestId ?? '',
      claims.reason ?? '',
    ],
  );
}

/** Runs `work` inside a savepoint and gives its error's SQLSTATE, or null when it worked; its changes stay only then. */
export async function sqlStateOf(
  client: pg.ClientBase,
  work: () => Promise<unknown>,
): Promise<string | null> {
  await client.query('savepoint probe');
  try {
    await work();
    await client.query('release savepoint probe');
    return null;
  } catch (error) {
    await client.query('rollback to savepoint probe');
    if (error instanceof Error && 'code' in error && typeof error.code === 'string')
      return error.code;
    throw error;
  }
}
