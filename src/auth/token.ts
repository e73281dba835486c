import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import jwt from 'jsonwebtoken';
import type { Algorithm, SignOptions } from 'jsonwebtoken';
import { claimsFromPayload, isRole, OWN_CLAIM_NAMES } from './claims.ts';
import type { ClaimNames, Role } from './claims.ts';
import type { NodeEnv } from '../config/config.ts';
import { ExplainedError } from '../lib/explained.ts';
import { readOwnFile, requireOwnFolder } from '../lib/own_files.ts';

const DEFAULT_EXPIRY = '12h';
const SECRET_BYTES = 48;
const MIN_SECRET_BYTES = 32;

export interface TokenOptions {
  readonly secret: string;
  /** HS256 unless the configuration pins another HS* algorithm. */
  readonly algorithm?: Algorithm;
  /** admin, auditor or viewer; any other text is refused. */
  readonly role: string;
  readonly userId?: string | undefined;
  readonly email?: string | undefined;
  /** Left out: all environments. */
  readonly environments?: readonly string[] | undefined;
  /** Seconds, or a span such as `15m`, `12h`, `30d`. Default 12 hours. */
  readonly expiresIn?: number | string | undefined;
  readonly audience?: string | null | undefined;
  readonly issuer?: string | null | undefined;
  /** The names under which the API looks for claims; Halyard's own by default. */
  readonly claimNames?: ClaimNames | undefined;
}

/**
 * Signs a token that the API accepts, for development and operations.
 *
 * @throws Error or InvalidClaimsError when the API would refuse the token
 */
export function signToken(options: TokenOptions): string {
  if (!isRole(options.role)) throw new Error('Give the token the role admin, auditor or viewer.');
  const names = options.claimNames ?? OWN_CLAIM_NAMES;
  const payload = makePayload(options, options.role, names);
  claimsFromPayload(payload, names);

  const signOptions: SignOptions = {
    algorithm: options.algorithm ?? 'HS256',
    expiresIn: readSpan(options.expiresIn ?? DEFAULT_EXPIRY),
  };
  if (typeof options.issuer === 'string') signOptions.issuer = options.issuer;
  return jwt.sign(payload, options.secret, signOptions);
}

/** Each claim under the name where the API looks first: a path is written as one name. @throws Error when two claims have one name */
function makePayload(
  { userId, email, environments, audience }: TokenOptions,
  role: Role,
  names: ClaimNames,
): object {
  if (names.environments !== null && environments === undefined)
    throw new Error(
      `Give the token environments: with JWT_ENVIRONMENTS_CLAIM a token without them reaches none.`,
    );
  const claims: readonly (readonly [string, unknown])[] = [
    [names.role ?? 'role', nameOf(role, names.roleMap)],
    [names.userId ?? 'userId', userId],
    [names.email ?? 'email', email],
    [names.environments ?? 'environments', environments],
    [names.audience, audience ?? undefined],
  ];
  const payload = new Map<string, unknown>();
  for (const [name, value] of claims) {
    if (value === undefined) continue;
    if (payload.has(name) && payload.get(name) !== value)
      throw new Error(`Give the token the same value for all that its claim ${name} stands for.`);
    payload.set(name, value);
  }
  return Object.fromEntries(payload);
}

function nameOf(role: Role, roleMap: ClaimNames['roleMap']): string {
  if (roleMap === null) return role;
  for (const [name, mapped] of roleMap) if (mapped === role) return name;
  throw new Error(`Have JWT_ROLE_MAP map a name to ${role}: no token can have that role now.`);
}

/** Digits are seconds; jsonwebtoken takes `"3600"` for milliseconds, and the token is dead at birth. */
function readSpan(span: number | string): NonNullable<SignOptions['expiresIn']> {
  const seconds = typeof span === 'number' || /^\d+$/.test(span) ? Number(span) : null;
  if (seconds !== null && Number.isSafeInteger(seconds) && seconds > 0) return seconds;
  if (seconds === null && /^\d+ ?(s|m|h|d|w|y)$/.test(String(span)))
    return span as NonNullable<SignOptions['expiresIn']>;
  throw new Error("Give the token's life in seconds or as a span such as 15m, 12h or 30d.");
}

/**
 * The secret that development signs with, made at the first call and kept in `<dataDir>/jwt-secret`.
 * Two processes that start at once end with the same one.
 *
 * @throws Error in production; ExplainedError when the file doesn't hold a secret; UntrustedPathError
 */
export function developmentSecret(dataDir: string, nodeEnv: NodeEnv): string {
  if (nodeEnv === 'production')
    throw new Error(
      'Set JWT_SECRET or JWT_JWKS_URI: the development secret is not for production.',
    );
  const file = path.join(dataDir, 'jwt-secret');
  fs.mkdirSync(dataDir, { recursive: true, mode: 0o755 });
  requireOwnFolder(dataDir);
  if (fs.lstatSync(file, { throwIfNoEntry: false }) === undefined) createSecretFile(file);
  const secret = (readOwnFile(file) ?? '').trim();
  // Copied about, it may have lost its mode.
  if ((fs.lstatSync(file).mode & 0o077) !== 0) fs.chmodSync(file, 0o600);
  if (Buffer.byteLength(secret) < MIN_SECRET_BYTES)
    throw new ExplainedError(`Delete ${file}, so that a new secret is made: it holds none.`);
  return secret;
}

/** A link appears whole or not at all, and fails when another process was first. */
function createSecretFile(file: string): void {
  const draft = `${file}.${randomBytes(8).toString('hex')}`;
  fs.writeFileSync(draft, `${randomBytes(SECRET_BYTES).toString('base64url')}\n`, {
    mode: 0o600,
    flag: 'wx',
    flush: true,
  });
  try {
    fs.linkSync(draft, file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  } finally {
    fs.rmSync(draft);
  }
}
