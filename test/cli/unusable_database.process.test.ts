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
const UNMIGRATED = (url: URL) => {
  url.href = withDatabase(url.href, 'postgres');
};

// Commands don't wait, and services only for what passes by itself.
test.concurrent.for<[string, string, (url: URL) => void, number, RegExp]>([
  ['setup', 'is away', UNREACHABLE, 1, /can't be reached: .*ECONNREFUSED/],
  ['setup', 'refuses the password', PASSWORD, 1, /can't be used: .*password/],
  ['migrate', 'is away', UNREACHABLE, 1, /can't be reached: .*ECONNREFUSED/],
  [
    'migrate',
    'asks for a password',
    NO_PASSWORD,
    1,
    /can't be used: the server asks for a password/,
  ],
  ['migrate', 'is not there', ABSENT, 1, /can't be used: .*absent/],
  ['migrate', 'has no TLS', TLS, 1, /can't be used: .*SSL/],
  ['settings list', 'refuses the password', PASSWORD, 1, /can't be used: .*password/],
  ['settings list', 'is not migrated', UNMIGRATED, 1, /no migration at all .*migrate/],
  ['audit verify', 'is away', UNREACHABLE, 3, /can't be reached: .*ECONNREFUSED/],
  [
    'audit verify',
    'asks for a password',
    NO_PASSWORD,
    3,
    /can't be used: the server asks for a password/,
  ],
  ['audit verify', 'is not migrated', UNMIGRATED, 3, /no migration at all .*migrate/],
  ['audit reconcile', 'has no TLS', TLS, 3, /can't be used: .*SSL/],
  ['api', 'refuses the password', PASSWORD, 1, /can't be used: .*password/],
  ['api', 'has no TLS', TLS, 1, /can't be used: .*SSL/],
  ['api', 'asks for a password', NO_PASSWORD, 1, /can't be used: the server asks for a password/],
  ['worker', 'is not there', ABSENT, 1, /can't be used: .*absent/],
  ['start', 'asks for a password', NO_PASSWORD, 1, /can't be used: the server asks for a password/],
  ['start', 'refuses the password', PASSWORD, 1, /can't be used: .*password/],
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

// pg's warning about this mode has eight lines.
test.concurrent.for(['migrate', 'settings list', 'worker'])(
  '%s with sslmode=require has one line of the log more',
  async (args, { onTestFinished }) => {
    const { err } = await run(args.split(' '), OLD_TLS, onTestFinished);
    const lines = err.trimEnd().split('\n');
    expect(lines.pop()).toMatch(/can't be used: .*SSL/);
    const messages = lines.map((line) => (JSON.parse(line) as { msg: string }).msg);
    expect(messages.filter((msg) => msg === 'Node.js warns')).toHaveLength(1);
  },
);
