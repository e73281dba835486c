/** Strongest first: a token with several roles acts as the first of these. */
export const ROLES = ['admin', 'auditor', 'viewer'] as const;

/** A role, by the name that tokens, settings and messages give it. */
export type Role = (typeof ROLES)[number];

export function isRole(text: string): text is Role {
  return (ROLES as readonly string[]).includes(text);
}
