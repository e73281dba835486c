import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { ConfigError, type Config } from '../../config/config.ts';
import { ExplainedError } from '../../lib/explained.ts';
import { readOwnFile, replaceFile, requireOwnFolder } from '../../lib/own_files.ts';

/** Says that a data folder was made for the demo, and in its second line that it has been filled. */
const MARK = 'demo';
const MADE = 'Made by npm start -- --demo.\n';
const FILLED = `${MADE}Filled.\n`;

/**
 * The configuration of a demo: its own data folder beside the usual one, `.halyard-demo`.
 *
 * @throws ConfigError where it would have another database than its own, or couldn't sign its people's tokens
 */
export function demoConfig(config: Config): Config {
  const problems: string[] = [];
  if (config.databaseUrl !== null)
    problems.push(
      'Unset DATABASE_URL: the demo makes up people and flags, so it has a database of its own.',
    );
  if (config.nodeEnv === 'production')
    problems.push('Set NODE_ENV to development: the demo prints tokens of admins.');
  if (config.jwt.jwksUri !== null)
    problems.push('Unset JWT_JWKS_URI: the demo signs the tokens of its people.');
  if (config.jwt.claims.environments !== null)
    problems.push('Unset JWT_ENVIRONMENTS_CLAIM: one of the demo’s people makes an environment.');
  if (problems.length > 0) throw new ConfigError(problems);
  return Object.freeze({ ...config, dataDir: `${config.dataDir}-demo` });
}

/**
 * Marks a new data folder as the demo's, before a database is in it.
 *
 * @throws ExplainedError for a folder whose database the demo has not made
 */
export function claimDataDir({ dataDir }: Config): void {
  mkdirSync(dataDir, { recursive: true, mode: 0o755 });
  requireOwnFolder(dataDir);
  if (readOwnFile(join(dataDir, MARK)) !== null) return;
  if (existsSync(join(dataDir, 'postgres')))
    throw new ExplainedError(
      `${dataDir} holds a database that the demo has not made. Move it away, or set HALYARD_DATA_DIR to another folder: the demo’s is beside that one, with -demo behind its name.`,
    );
  replaceFile(join(dataDir, MARK), MADE, 0o644);
}

/** Whether the demo has been filled by an earlier start. */
export const isFilled = ({ dataDir }: Config): boolean =>
  readOwnFile(join(dataDir, MARK)) === FILLED;

export const markFilled = ({ dataDir }: Config): void =>
  replaceFile(join(dataDir, MARK), FILLED, 0o644);
