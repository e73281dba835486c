import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test, type TestContext } from 'vitest';
import { withDatabase } from '../../src/postgres/setup.ts';
import { useDatabase } from '../support/database.ts';
import { startProcess } from '../support/processes.ts';

const database = useDatabase();

/** A command on a database that it can't use: its exit status and all that it says. */
async function run(
  [...args]: readonly string[],
  change: (url: URL) => void,
  onTestFinished: TestContext['onTestFinished'],
) {
  const changed = (text: string) => {
    const url = new URL(text);
    change(url);
    return url.href;
  };
  const running = startProcess(process.execPath, ['src/main.ts', ...args], {
    env: {
      NODE_ENV: 'production',
      PORT: '0',
      JWT_SECRET: 'x'.repeat(32),
      ROOT_DATABASE_URL: changed(database.rootUrl),
      DATABASE_URL: changed(database.ownerUrl),
      AUTH_DATABASE_URL: changed(database.authenticatorUrl),
      WORKER_DATABASE_URL: changed(database.workerUrl),
    },
  });
  onTestFinished(async () => {
    await running.end('SIGKILL');
  });
  const code = await running.exited;
  return { code, out: running.stdout(), err: running.stderr() };
}

const UNREACHABLE = (url: URL) => void Object.assign(url, { port: '1' });
const PASSWORD = (url: URL) => void Object.assign(url, { password: 'gr8secret' });
const NO_PASSWORD = (url: URL) => void Object.assign(url, { password: '' });
const ABSENT = (url: URL) => void Object.assign(url, { pathname: '/absent' });
const TLS = (url: URL) => url.searchParams.set('sslmode', 'verify-full');
const OLD_TLS = (url: URL) => url.searchParams.set('sslmode', 'require');
const OTHER_LOGIN = (url: URL) => {
  // Of the three logins, whose passwords are the same, the next one's.
  const names = ['halyard_owner', 'halyard_authenticator', 'halyard_worker', 'halyard_owner'];
  url.username = names[names.indexOf(url.username) + 1] ?? '';
};
const UNMIGRATED = (url: URL) => {
  url.href = withDatabase(url.href, 'postgres');
};

// Commands don't wait, and services only for what passes by itself. Every command is here, and every reason: one place finds the
// sentence of a reason, whatever the command.
test.concurrent.for<[string, string, (url: URL) => void, number, RegExp]>([
  ['setup', 'refuses the password', PASSWORD, 1, /can't be used: .*password/],
  ['migrate', 'is away', UNREACHABLE, 1, /can't be reached: .*ECONNREFUSED/],
  ['migrate', 'is not there', ABSENT, 1, /can't be used: .*absent/],
  ['settings list', 'is not migrated', UNMIGRATED, 1, /no migration at all .*migrate/],
  [
    'audit verify',
    'asks for a password',
    NO_PASSWORD,
    3,
    /can't be used: the server asks for a password/,
  ],
  ['audit verify', 'is not migrated', UNMIGRATED, 3, /no migration at all .*migrate/],
  ['audit reconcile', 'has no TLS', TLS, 3, /can't be used: the server offers no TLS/],
  ['api', 'refuses the password', PASSWORD, 1, /can't be used: .*password/],
  ['worker', 'is not there', ABSENT, 1, /can't be used: .*absent/],
  ['migrate', 'is given another login', OTHER_LOGIN, 1, /must log in as halyard_owner/],
  ['settings list', 'is given another login', OTHER_LOGIN, 1, /Set DATABASE_URL to .*_owner/],
  ['restore status', 'is given another login', OTHER_LOGIN, 3, /Set DATABASE_URL to .*_owner/],
  ['audit verify', 'is given another login', OTHER_LOGIN, 3, /grant it the right/],
  ['api', 'is given another login', OTHER_LOGIN, 1, /must log in as halyard_authenticator/],
  ['worker', 'is given another login', OTHER_LOGIN, 1, /must log in as halyard_worker/],
  ['start', 'asks for a password', NO_PASSWORD, 1, /can't be used: the server asks for a password/],
])(
  '%s ends with a sentence where the database %s',
  async ([args, , change, status, sentence], { onTestFinished }) => {
    const { code, out, err } = await run(args.split(' '), change, onTestFinished);
    expect([code, out]).toEqual([status, '']);
    // Behind the lines of a service's log.
    const said = err.split('\n').filter((line) => line !== '' && !line.startsWith('{'));
    expect(said).toHaveLength(1);
    expect(said[0]).toMatch(sentence);
    expect(err).not.toMatch(/gr8secret|"level":"(warn|error)"/);
  },
);

// pg warns about this mode, in eight lines.
test('sslmode=require has no line of the log more', async ({ onTestFinished }) => {
  const { err } = await run(['settings', 'list'], OLD_TLS, onTestFinished);
  expect(err).toMatch(/^The database .* can't be used: the server offers no TLS.*\n$/);
});

test('start finds a port that is taken before it makes anything', async ({ onTestFinished }) => {
  const taken = createServer();
  await once(taken.listen(0, '127.0.0.1'), 'listening');
  onTestFinished(() => void taken.close());
  const { port } = taken.address() as AddressInfo;
  const folder = join(tmpdir(), `halyard-${randomUUID()}`);
  for (const settings of [{ PORT: `${port}` }, { PORT: '0', METRICS_PORT: `${port}` }]) {
    const running = startProcess(process.execPath, ['src/main.ts', 'start'], {
      env: { HALYARD_DATA_DIR: folder, ...(settings as Record<string, string>) },
    });
    expect(await running.exited).toBe(1);
    expect(running.stderr()).toMatch(
      /configuration:\n- Set (METRICS_)?PORT to a free port, [^\n]*EADDRINUSE[^\n]*\n$/,
    );
    expect(existsSync(folder)).toBe(false);
  }
});
