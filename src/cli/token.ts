import { parseArgs } from 'node:util';

import type { Algorithm } from 'jsonwebtoken';

import { loadProcessConfig } from '../config/config.ts';
import type { Config } from '../config/config.ts';
import { developmentSecret, signToken } from '../auth/token.ts';

const OPTIONS = {
  role: { type: 'string' },
  'user-id': { type: 'string' },
  email: { type: 'string' },
  environments: { type: 'string' },
  'expires-in': { type: 'string' },
} as const;

/**
 * `halyard token`: prints a signed token, and nothing else, to stdout. What is wrong with the arguments is one sentence on
 * stderr, with status 2.
 */
export function token(args: string[]): Promise<void> {
  const config = loadProcessConfig('token');
  try {
    process.stdout.write(`${makeToken(args, config)}\n`);
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    process.stderr.write(`${error.message}\n`);
    process.exitCode = 2;
  }
  return Promise.resolve();
}

/**
 * The token that the arguments of the command line ask for.
 *
 * @throws Error whose message says what is wrong with the arguments
 */
export function makeToken(args: string[], { jwt, dataDir, nodeEnv }: Config): string {
  const { values } = parseArgs({ args, options: OPTIONS, strict: true, allowPositionals: false });
  if (values.role === undefined)
    throw new Error('Give the token a role: --role admin, auditor or viewer.');
  return signToken({
    secret: jwt.secret ?? developmentSecret(dataDir, nodeEnv),
    algorithm: (jwt.algorithms[0] ?? 'HS256') as Algorithm,
    role: values.role,
    userId: values['user-id'],
    email: values.email,
    environments: readEnvironments(values.environments),
    expiresIn: values['expires-in'],
    audience: jwt.audience,
    issuer: jwt.issuer,
  });
}

/** An empty name is a slip, such as an unset variable of a script; it must not become a token for nothing or for all. */
function readEnvironments(list: string | undefined): string[] | undefined {
  if (list === undefined) return undefined;
  const environments = list.split(',').map((name) => name.trim());
  if (environments.includes('')) {
    throw new Error('Give --environments names separated by commas, as in staging,production.');
  }
  return environments;
}
