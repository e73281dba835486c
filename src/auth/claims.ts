/** Strongest first: a token with several roles acts as the first of these. */
const ROLES = ['admin', 'auditor', 'viewer'] as const;

export type Role = (typeof ROLES)[number];

/** What a verified token says about who asks. */
export interface Claims {
  readonly userId: string | null;
  readonly email: string | null;
  /** Null when the token names no role that Halyard knows: nothing is allowed (403). */
  readonly role: Role | null;
  /** The only environments the caller may see and change; null means all, an empty array none. */
  readonly environments: readonly string[] | null;
  /** Epoch seconds, or null for a token without end. May lie further ahead than a timer reaches (2^31 ms). */
  readonly expiresAt: number | null;
}

/** Of feature_flag_schedules.created_by. */
const USER_ID_LENGTH = 255;
/** Of an address, RFC 3696 erratum 1690 with the older, wider limit. */
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

export function isRole(text: string): text is Role {
  return (ROLES as readonly string[]).includes(text);
}

/**
 * Reads `userId` (or `sub`), `email`, `role` and `roles`, `environments` and `exp` of a verified payload.
 *
 * A user id or e-mail that is absent, null or blank is unknown. A number is refused: JSON rounds large
 * ones, and the trail would name someone else. Unknown roles are ignored; of several the strongest counts.
 *
 * @throws InvalidClaimsError when a claim has another type, is too long, holds control characters, or shows as another one
 */
export function claimsFromPayload(payload: unknown): Claims {
  if (typeof payload !== 'object' || payload === null || Array.isArray(payload))
    throw new InvalidClaimsError("Make the token's payload a JSON object.");
  const claims = payload as Record<string, unknown>;
  return Object.freeze({
    userId: readText(claims, 'userId', USER_ID_LENGTH) ?? readText(claims, 'sub', USER_ID_LENGTH),
    email: readText(claims, 'email', EMAIL_LENGTH),
    role: readRole(claims),
    environments: readEnvironments(claims),
    expiresAt: readExpiry(claims),
  });
}

function readText(claims: Record<string, unknown>, name: string, maxLength: number): string | null {
  const value = claims[name] ?? null;
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

function readRole(claims: Record<string, unknown>): Role | null {
  const given = [claims.role, claims.roles].flatMap((value) => value ?? []);
  if (given.some((role) => typeof role !== 'string'))
    throw new InvalidClaimsError("Make the token's role or roles a string or an array of strings.");
  return ROLES.find((role) => given.includes(role)) ?? null;
}

/** Null is refused, not taken as absent: absent opens every environment. */
function readEnvironments(claims: Record<string, unknown>): readonly string[] | null {
  const value = claims.environments;
  if (value === undefined) return null;
  if (!Array.isArray(value) || !value.every(isStorable))
    throw new InvalidClaimsError(
      "Make the token's environments an array of strings, or leave it out.",
    );
  return Object.freeze([...value]);
}

function readExpiry(claims: Record<string, unknown>): number | null {
  const value = claims.exp;
  if (value === undefined) return null;
  if (typeof value !== 'number')
    throw new InvalidClaimsError("Make the token's exp a number of seconds since 1970.");
  return value;
}
