import { spawnSync } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { CHECKOUT, startProcess } from '../support/processes.ts';
import { TEST_SECRET } from '../support/tokens.ts';

const database = useDatabase();
const ANNOUNCE = join(CHECKOUT, 'test/support/announce_load.ts');
const IN_NAMESPACE = ['--fork', '--pid', '--mount-proc', '--kill-child'];

/** Node as a process with a command of Halyard's, which prints `loading` when it loads that file. */
function start(command: string, announce: string, asProcess1 = false) {
  const env = {
    NODE_ENV: 'production',
    PORT: '0',
    JWT_SECRET: TEST_SECRET,
    DATABASE_URL: database.ownerUrl,
    AUTH_DATABASE_URL: database.authenticatorUrl,
    WORKER_DATABASE_URL: database.workerUrl,
    HALYARD_TEST_ANNOUNCE: announce,
  };
  const node = ['--import', ANNOUNCE, 'src/main.ts', command];
  const started = asProcess1
    ? startProcess('unshare', [...IN_NAMESPACE, process.execPath, ...node], { env })
    : startProcess(process.execPath, node, { env });
  onTestFinished(async () => {
    await started.end('SIGKILL');
  });
  return started;
}

test.each([
  // A file that the process loads while nothing of the command runs yet.
  ['api', 'cli/run.ts', 0],
  ['worker', 'worker/runner.ts', 0],
  ['start', 'cli/start.ts', 0],
  // As a shell shows a process that SIGTERM ended.
  ['migrate', 'cli/setup_and_migrate.ts', 143],
])('%s that is still being loaded ends at SIGTERM', async (command, announce, status) => {
  const starting = start(command, announce);
  await starting.waitFor(/^loading$/m);
  expect(await starting.end('SIGTERM')).toBe(status);
  expect(starting.stderr()).not.toMatch(/"level":"(warn|error)"|^ +at /m);
});

// npm runs a script by a shell, which may stay between the two, and drops what it gets while it waits.
test('worker that npm runs ends in order when npm gets SIGTERM', async () => {
  const running = startProcess('npm', ['run', '-s', 'halyard', '--', 'worker'], {
    env: { NODE_ENV: 'production', WORKER_DATABASE_URL: database.workerUrl },
  });
  onTestFinished(() => {
    // The group: npm may be gone, and what it ran left.
    spawnSync('kill', ['-KILL', '--', `-${running.child.pid}`]);
  });
  await running.waitFor(/the worker is running/);
  running.child.kill('SIGTERM');
  await expect.poll(running.stderr, { timeout: 30_000 }).toMatch(/the worker has stopped/);
  expect(await running.exited).toBe(0);
});

/** Why process 1 of a namespace can't be tried here; undefined when it can. */
function whyNot(): string | undefined {
  if (process.platform !== 'linux') return 'a namespace of processes needs Linux';
  if (process.getuid?.() !== 0) return 'a namespace of processes needs root';
  const { status } = spawnSync('unshare', [...IN_NAMESPACE, 'true']);
  return status === 0 ? undefined : 'unshare makes no namespace of processes here';
}

// The kernel drops signals to process 1 that it doesn't handle: in a container node is that.
test('process 1 ends at SIGTERM, while it is loaded and when it runs', async ({ skip }) => {
  const reason = whyNot();
  if (reason !== undefined) {
    process.stderr.write(`Skipped: ${reason}.\n`);
    skip(reason);
  }
  const signalInner = async ({ child }: ReturnType<typeof start>) => {
    const children = await readFile(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8');
    process.kill(Number(children), 'SIGTERM');
  };
  const loading = start('worker', 'cli/run.ts', true);
  await loading.waitFor(/^loading$/m);
  await signalInner(loading);
  expect(await loading.exited).toBe(0);

  const running = start('api', 'none', true);
  await running.waitFor(/the API is listening/);
  await signalInner(running);
  expect(await running.exited).toBe(0);
  expect(running.stderr()).toMatch(/"pid":1,.*"msg":"stopping"/);
});
