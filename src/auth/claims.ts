import type { Config } from '../config/config.ts';
import { ROLES, type Role } from '../lib/roles.ts';

export { isRole, type Role } from '../lib/roles.ts';

/** The names of a token's claims where they aren't Halyard's own, and the meaning of its roles' names. */
export type ClaimNames = Config['jwt']['claims'];

/** Halyard's own names. */
export const OWN_CLAIM_NAMES: ClaimNames = Object.freeze({
  userId: null,
  email: null,
  role: null,
  roleMap: null,
  environments: null,
  audience: 'aud',
});

/** The claims of a verified token. */
export interface Claims {
  readonly userId: string | null;
  readonly email: string | null;
  /** Null when the token names no role that Halyard knows: nothing is allowed (403). */
  readonly role: Role | null;
  /** A sentence for the holder of a token without a role: it says which claim was looked for. */
  readonly roleProblem?: string;
  /** The only environments the caller may see and change; null means all, an empty array none. */
  readonly environments: readonly string[] | null;
  /** Epoch seconds, or null for a token without end. May lie further ahead than a timer reaches (2^31 ms). */
  readonly expiresAt: number | null;
}

/** Characters of feature_flag_schedules.created_by. */
const USER_ID_LENGTH = 255;
/** Characters of an address: RFC 3696, erratum 1690, with the older, wider limit. */
const EMAIL_LENGTH = 320;

/** The signature is good, but a claim is not of the documented shape: 401. */
export class InvalidClaimsError extends Error {
  override readonly name = 'InvalidClaimsError';
  readonly status = 401;
  readonly code = 'token_invalid';
  readonly headers = { 'WWW-Authenticate': 'Bearer error="invalid_token"' } as const;
}

/** The user for whom shares and limits count: tokens without a user id are one user for each role. */
export function userKey({ userId, role }: Pick<Claims, 'userId' | 'role'>): string {
  return userId === null ? `role:${role ?? ''}` : `user:${userId}`;
}

/**
 * Reads who asks, and as what, of a verified payload: `userId` (or `sub`), `email`, `role` and `roles`, `environments` and `exp`, or
 * the claims that stand in their place.
 *
 * A user id or e-mail that is absent, null or blank is unknown. A number is refused: JSON rounds large
 * ones, and the trail would name someone else. Unknown roles are ignored; of several the strongest counts.
 *
 * @throws InvalidClaimsError when a claim has another type, is too long, holds control characters, or shows as another one
 */
export function claimsFromPayload(payload: unknown, names: ClaimNames = OWN_CLAIM_NAMES): Claims {
  const claims = requireObject(payload);
  const id = (name: string) => readText(claims, name, USER_ID_LENGTH);
  return Object.freeze({
    userId: names.userId === null ? (id('userId') ?? id('sub')) : id(names.userId),
    email: readText(claims, names.email ?? 'email', EMAIL_LENGTH),
    ...readRole(claims, names),
    environments: readEnvironments(claims, names.environments),
    expiresAt: readExpiry(claims),
  });
}

/** @throws InvalidClaimsError when a payload is no JSON object */
export function requireObject(payload: unknown): object {
  if (typeof payload !== 'object' || payload === null || Array.isArray(payload))
    throw new InvalidClaimsError("Make the token's payload a JSON object.");
  return payload;
}

function readText(claims: object, name: string, maxLength: number): string | null {
  const value = findClaim(claims, name) ?? null;
  if (value === null) return null;
  // PostgreSQL counts code points, and so does this.
  if (!isStorable(value) || Array.from(value).length > maxLength)
    throw new InvalidClaimsError(
      `Make the token's ${name} a string of at most ${maxLength} characters without control characters.`,
    );
  if (value.trim() === '') return null;
  if (!isUnmistakable(value))
    throw new InvalidClaimsError(
      `Make the token's ${name} one that shows as what it is: in normal form NFKC, without invisible characters or spaces at its ends, and not of Latin, Cyrillic, Greek or other letters mixed that look alike.`,
    );
  return value;
}

/** PostgreSQL stores neither NUL nor half a surrogate pair, and control characters forge lines in a trail. */
function isStorable(value: unknown): value is string {
  return typeof value === 'string' && value.isWellFormed() && !/\p{Cc}/u.test(value);
}

/**
 * Characters that show as nothing, or change the direction of others, and spaces other than the usual one. Some are symbols to
 * Unicode: a Braille pattern without dots, a note without a head, the blanks of Egyptian hieroglyphs and Khitan.
 */
const INVISIBLE =
  /[\p{Default_Ignorable_Code_Point}\p{C}\p{Zl}\p{Zp}\u2800\u{1D159}\u{13441}\u{13442}]|\u{16FE4}|(?! )\p{Zs}/u;
/** Scripts with letters that look like those of another of these (UTS 39, confusables.txt). */
const ALIKE =
  'Latin Cyrillic Greek Armenian Cherokee Coptic Lisu Deseret Osage Canadian_Aboriginal Runic Tifinagh Vai Gothic Old_Italic Lycian Lydian Carian Elbasan Warang_Citi Glagolitic Miao Bamum Medefaidrin'
    .split(' ')
    .map((script) => new RegExp(`\\p{Script=${script}}`, 'u'));

/**
 * Whether a name isn't hidden in, or mixed from, what a reader of the trail takes for another one (UTS 39, Unicode Security Mechanisms,
 * 5.2). A name of one script that looks like one of another passes, and so do letters of one script that look alike.
 */
function isUnmistakable(name: string): boolean {
  return (
    name === name.trim() &&
    name === name.normalize('NFKC') &&
    !INVISIBLE.test(name) &&
    ALIKE.filter((script) => script.test(name)).length <= 1
  );
}

/** A string is the name of one role, also with spaces in it: groups have such names, and lists of scopes are no roles. */
function readRole(
  claims: object,
  { role: name, roleMap }: ClaimNames,
): Pick<Claims, 'role' | 'roleProblem'> {
  const found = (name === null ? ['role', 'roles'] : [name]).map((n) => findClaim(claims, n));
  const given = found.flatMap((value) => value ?? []);
  const title = name ?? 'role or roles';
  if (!given.every((role) => typeof role === 'string'))
    throw new InvalidClaimsError(`Make the token's ${title} a string or an array of strings.`);
  const roles = roleMap === null ? given : given.map((role) => roleMap.get(role));
  const role = ROLES.find((one) => roles.includes(one));
  if (role !== undefined) return { role };
  const wanted =
    roleMap === null
      ? 'names admin, auditor or viewer'
      : 'has a name that JWT_ROLE_MAP maps to a role';
  const problem = found.every((value) => value === undefined)
    ? 'this token has no such claim'
    : 'the claim of this token does not';
  return { role: null, roleProblem: `Ask for a token whose claim ${title} ${wanted}: ${problem}.` };
}

/**
 * Null is refused, not taken as absent: absent opens every environment. Where the configuration names the claim it opens none, so
 * that a token that the identity provider forgot to limit isn't one for all.
 */
function readEnvironments(claims: object, name: string | null): readonly string[] | null {
  const value = findClaim(claims, name ?? 'environments');
  if (value === undefined) return name === null ? null : Object.freeze([]);
  if (!Array.isArray(value) || !value.every(isStorable))
    throw new InvalidClaimsError(
      name === null
        ? "Make the token's environments an array of strings, or leave it out."
        : `Make the token's ${name} an array of strings.`,
    );
  return Object.freeze([...value]);
}

function readExpiry(claims: object): number | null {
  const value = findClaim(claims, 'exp');
  if (value === undefined) return null;
  if (typeof value !== 'number')
    throw new InvalidClaimsError("Make the token's exp a number of seconds since 1970.");
  return value;
}

/**
 * The claim of a payload by its name: the payload's own property of exactly that name, otherwise the one at the end of the path
 * that the name is with dots for steps, as `realm_access.roles`.
 *
 * Only own properties of objects count, so that `constructor` or `__proto__` finds nothing that the token doesn't hold.
 *
 * @returns undefined when the payload has no such claim
 */
export function findClaim(payload: object, name: string): unknown {
  if (Object.hasOwn(payload, name)) return Reflect.get(payload, name);
  let value: unknown = payload;
  for (const step of name.split('.')) {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined;
    if (!Object.hasOwn(value, step)) return undefined;
    value = Reflect.get(value, step);
  }
  return value;
}
