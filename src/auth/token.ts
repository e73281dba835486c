import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';

import jwt from 'jsonwebtoken';
import type { Algorithm, SignOptions } from 'jsonwebtoken';

import { claimsFromPayload, isRole } from './claims.ts';
import type { NodeEnv } from '../config/config.ts';
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
}

/**
 * Signs a token that the API accepts, for development and operations.
 *
 * @throws Error or InvalidClaimsError when the API would refuse the token
 */
export function signToken(options: TokenOptions): string {
  const { role, userId, email, environments } = options;
  if (!isRole(role)) throw new Error('Give the token the role admin, auditor or viewer.');
  // JSON leaves out what is undefined.
  const payload = { role, userId, email, environments };
  claimsFromPayload(payload);

  const signOptions: SignOptions = {
    algorithm: options.algorithm ?? 'HS256',
    expiresIn: readSpan(options.expiresIn ?? DEFAULT_EXPIRY),
  };
  if (typeof options.audience === 'string') signOptions.audience = options.audience;
  if (typeof options.issuer === 'string') signOptions.issuer = options.issuer;
  return jwt.sign(payload, options.secret, signOptions);
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
 * @throws Error in production, and when the file doesn't hold a secret; UntrustedPathError
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
    throw new Error(`Delete ${file}, so that a new secret is made: it holds none.`);
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
