import { isDenial, ProblemError } from '../lib/errors.ts';
import type { Claims, Role } from './claims.ts';

/** An action that some roles may do and others not. */
export type Action =
  | 'read_flags'
  | 'change_flags'
  | 'read_plans'
  | 'change_plans'
  | 'create_environments'
  | 'read_trail';

/** The roles that are meant to do each action. The grants in migrations/fixtures enforce it; a test compares them. */
export const RIGHTS: Readonly<Record<Action, { roles: readonly Role[]; takes: string }>> = {
  read_flags: {
    roles: ['admin', 'viewer', 'auditor'],
    takes: 'the token of an admin, a viewer or an auditor',
  },
  change_flags: { roles: ['admin'], takes: 'the token of an admin of this environment' },
  read_plans: { roles: ['admin', 'auditor'], takes: 'the token of an admin or an auditor' },
  change_plans: { roles: ['admin'], takes: 'the token of an admin of all of the environments' },
  create_environments: {
    roles: ['admin'],
    takes: 'the token of an admin that isn’t limited to environments',
  },
  read_trail: { roles: ['admin', 'auditor'], takes: 'the token of an admin or an auditor' },
};

/**
 * Makes a denial by the database (42501) the caller's own where the role isn't meant to do this. Where it is, the database lacks
 * something that Halyard counts on, as a grant that somebody revoked: that stays as it is, and is an internal_error.
 *
 * @returns ProblemError forbidden, or the error that was given
 */
export function explainDenial(error: unknown, role: Role | null, action: Action): unknown {
  const { roles, takes } = RIGHTS[action];
  if (role === null || roles.includes(role) || !isDenial(error)) return error;
  return new ProblemError('forbidden', `This takes ${takes}.`, { cause: error });
}

/** Whether the claims' user may have proofs of events: what proves one shows the hashes of others, of all environments. */
export function mayProve({ role, environments }: Claims): boolean {
  return (role === 'admin' || role === 'auditor') && environments === null;
}
