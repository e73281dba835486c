import type { Algorithm } from 'jsonwebtoken';
import { developmentSecret, signToken, type TokenOptions } from '../auth/token.ts';
import { loadProcessConfig, type Config } from '../config/config.ts';
import { isErrno } from '../lib/errno.ts';
import { BAD_ARGUMENTS } from './exit_codes.ts';

export type TokenArguments = Omit<
  TokenOptions,
  'secret' | 'algorithm' | 'audience' | 'issuer' | 'claimNames'
>;

const NAMELESS =
  'Warning: without --user-id the audit trail doesn’t say who made the changes that are made with this token.';

/** `halyard token`: prints a signed token, and nothing else, to stdout; warns on stderr of an admin without a user id; exit status 2 when the API would refuse it. */
export function token(options: TokenArguments): void {
  const config = loadProcessConfig('token');
  try {
    process.stdout.write(`${makeToken(options, config)}\n`);
    if (options.role === 'admin' && options.userId === undefined)
      process.stderr.write(`${NAMELESS}\n`);
  } catch (error) {
    // Of the data folder: the arguments are good.
    if (!(error instanceof Error) || isErrno(error)) throw error;
    process.stderr.write(`${error.message}\n`);
    process.exitCode = BAD_ARGUMENTS;
  }
}

/** @throws Error whose message says why the API would refuse the token */
export function makeToken(options: TokenArguments, { jwt, dataDir, nodeEnv }: Config): string {
  return signToken({
    ...options,
    secret: jwt.secret ?? developmentSecret(dataDir, nodeEnv),
    algorithm: (jwt.algorithms[0] ?? 'HS256') as Algorithm,
    audience: jwt.audience,
    issuer: jwt.issuer,
    claimNames: jwt.claims,
  });
}
