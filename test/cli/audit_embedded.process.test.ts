import { join } from 'node:path';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { makeDataDir, removeDataDir } from '../support/postgres_server.ts';
import { startProcess } from '../support/processes.ts';

let dataDir: string;

beforeAll(async () => {
  dataDir = await makeDataDir();
});
afterAll(() => removeDataDir(dataDir, join(dataDir, 'postgres')));

function halyard(...args: string[]) {
  const running = startProcess(process.execPath, ['src/main.ts', ...args], {
    env: { PORT: '0', METRICS_PORT: '0', HALYARD_DATA_DIR: dataDir },
  });
  onTestFinished(async () => {
    await running.end('SIGKILL');
  });
  return running;
}

async function verify(): Promise<{ code: number | null; out: string; err: string }> {
  const running = halyard('audit', 'verify');
  return { code: await running.exited, out: running.stdout(), err: running.stderr() };
}

test('the audit commands work on the data folder’s own database, whether it runs or not, and make none', async () => {
  const missing = await verify();
  expect(missing.err).toContain('There is no database in');
  expect(missing.code).toBe(3);

  const product = halyard('start');
  await product.waitFor(/Ctrl-C stops everything/, 60_000);
  const beside = await verify();
  expect(beside).toMatchObject({ code: 0, err: '' });
  expect(beside.out).toContain('Verified');
  expect(await product.end()).toBe(0);

  const alone = await verify();
  expect(alone).toMatchObject({ code: 0, err: '' });
  expect(alone.out).toBe(beside.out);
});
