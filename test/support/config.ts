import { ConfigError, loadConfig } from '../../src/config/config.ts';
import type { Command } from '../../src/config/config.ts';
import { SETTINGS } from '../../src/config/settings.ts';

/** The shortest secret for HS256. */
export const SECRET = '0123456789abcdef0123456789abcdef';

/** What loadConfig() finds wrong. */
export function problems(env: NodeJS.ProcessEnv, command: Command = 'start'): readonly string[] {
  try {
    loadConfig(env, command);
    return [];
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return error.problems;
  }
}

/** What each problem is about: the first variable that its sentence names. */
export const blamed = (env: NodeJS.ProcessEnv, command?: Command) =>
  problems(env, command).map((problem) =>
    problem.match(/\w+/g)?.find((word) => Object.hasOwn(SETTINGS, word)),
  );
