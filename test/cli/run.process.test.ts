import { expect, test } from 'vitest';
import { startProcess } from '../support/processes.ts';

/** Without a database and with a configuration that no command takes. */
async function halyard(...args: string[]) {
  const running = startProcess('node', ['src/main.ts', ...args], {
    env: { NODE_ENV: 'production', PORT: 'bad' },
  });
  const code = await running.exited;
  return { code, out: running.stdout(), err: running.stderr() };
}

test('help exits with 0 and reads no configuration', async () => {
  const { code, out, err } = await halyard('worker', '--help');
  expect({ code, err }).toEqual({ code: 0, err: '' });
  expect(out).toContain('Usage: npm run halyard -- worker');
});

test('bad arguments exit with 2 before the configuration is read', async () => {
  const { code, out, err } = await halyard('audit', 'verify', '--since', '1');
  expect({ code, out }).toEqual({ code: 2, out: '' });
  expect(err).toBe(
    "error: unknown option '--since'\nUsage: npm run halyard -- audit verify [options]\n",
  );
});

test('no command exits with 2 and lists the commands on stderr', async () => {
  const { code, out, err } = await halyard();
  expect({ code, out }).toEqual({ code: 2, out: '' });
  expect(err).toMatch(/^ {2}migrate /m);
});

test('a configuration that is refused is one message and exits with 1', async () => {
  const { code, out, err } = await halyard('migrate');
  expect({ code, out }).toEqual({ code: 1, out: '' });
  expect(err).toMatch(/^Halyard can't start with this configuration:\n- Set PORT to /);
  expect(err).not.toMatch(/^\s+at /m);
});
