import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { claimDataDir, demoConfig, isFilled, markFilled } from '../../src/cli/demo/config.ts';
import { ConfigError, loadConfig } from '../../src/config/config.ts';
import { ExplainedError } from '../../src/lib/explained.ts';
import { TEST_SECRET } from '../support/tokens.ts';

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'halyard-test-'));
});

afterEach(() => rmSync(folder, { recursive: true }));

const configOf = (env: Record<string, string> = {}) =>
  demoConfig(loadConfig({ HALYARD_DATA_DIR: join(folder, 'data'), ...env }, 'start'));

describe('the demo', () => {
  test('has a data folder of its own, beside the usual one', () => {
    expect(configOf().dataDir).toBe(join(folder, 'data-demo'));
  });

  test.each([
    {
      DATABASE_URL: 'postgres://halyard_owner@127.0.0.1/flags',
      AUTH_DATABASE_URL: 'postgres://halyard_authenticator@127.0.0.1/flags',
      WORKER_DATABASE_URL: 'postgres://halyard_worker@127.0.0.1/flags',
    },
    { JWT_JWKS_URI: 'https://issuer.example/keys' },
    { JWT_ENVIRONMENTS_CLAIM: 'environments' },
    { NODE_ENV: 'production', JWT_SECRET: TEST_SECRET, AUDIT_SINK: 'stdout' },
  ])('is refused with %o', (env) => {
    expect(() => configOf(env)).toThrow(ConfigError);
  });

  test('takes no folder whose database it has not made', () => {
    const config = configOf();
    mkdirSync(join(config.dataDir, 'postgres'), { recursive: true });
    expect(() => claimDataDir(config)).toThrow(ExplainedError);
    expect(isFilled(config)).toBe(false);
  });

  test('knows its folder again, and whether it was filled', () => {
    const config = configOf();
    claimDataDir(config);
    expect(isFilled(config)).toBe(false);
    mkdirSync(join(config.dataDir, 'postgres'));
    claimDataDir(config);
    markFilled(config);
    claimDataDir(config);
    expect(isFilled(config)).toBe(true);
  });
});
