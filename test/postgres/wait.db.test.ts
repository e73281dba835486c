import { createServer, type AddressInfo } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { ConnectionError, NotMigratedError } from '../../src/postgres/error.ts';
import { withDatabase } from '../../src/postgres/setup.ts';
import { waitForDatabase } from '../../src/postgres/wait.ts';
import { useDatabase, withClient } from '../support/database.ts';
import { makeTestLog } from '../support/log.ts';
import { startTcpProxy } from '../support/tcp_proxy.ts';

const database = useDatabase();

/** Waits as the worker does, until the end of the test. */
function wait(url = database.workerUrl, unmigratedMs = Infinity) {
  const { log, lines, text } = makeTestLog();
  const stop = new AbortController();
  onTestFinished(() => stop.abort());
  let failures = 0;
  const ready = waitForDatabase({
    ...{ url, name: 'halyard test', nodeEnv: 'test', unmigratedMs, log, signal: stop.signal },
    onWaiting: () => (failures += 1),
  });
  ready.catch(() => undefined);
  const said = (level: string) => lines.filter((line) => line.level === level);
  return { ready, stop, said, text, failures: () => failures };
}

function changed(change: (url: URL) => void, from = database.workerUrl): string {
  const url = new URL(from);
  change(url);
  return url.href;
}

const asRoot = (sql: string) =>
  withClient(withDatabase(database.rootUrl, 'postgres'), (root) => root.query(sql));

test.for<[string, string, (url: URL) => void]>([
  ['a wrong password', 'password', (url) => (url.password = 'gr8secret')],
  ['no password', 'password', (url) => (url.password = '')],
  ['no such database', 'database', (url) => (url.pathname = '/absent')],
  ['TLS that is refused', 'no TLS', (url) => url.searchParams.set('sslmode', 'verify-full')],
])('%s ends it at once, with a sentence that has no secret', async ([, word, change]) => {
  const { ready, text, failures } = wait(changed(change));
  const error: unknown = await ready.catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(ConnectionError);
  const { message } = error as Error;
  expect(message).toContain(new URL(database.workerUrl).host);
  expect(message).toMatch(new RegExp(`can't be used: .*${word}.*\\.$`));
  expect(message + text()).not.toMatch(/gr8secret|halyard_worker:/);
  expect(failures()).toBe(0);
});

test('a database without a right to connect ends it at once', async () => {
  await asRoot(`revoke connect on database ${database.name} from halyard_worker`);
  await expect(wait().ready).rejects.toThrow(ConnectionError);
  await asRoot(`grant connect on database ${database.name} to halyard_worker`);
});

test('a login without its grants, as after a restore without privileges, ends it at once', async () => {
  const change = (verb: string) =>
    withClient(database.ownerUrl, (owner) => owner.query(`${verb} halyard_worker`));
  await change('revoke usage on schema app_private from');
  await expect(wait().ready).rejects.toThrow(/can't be used: permission denied for schema/);
  await change('grant usage on schema app_private to');
});

test('a lock on what it asks is waited for', async () => {
  await withClient(database.ownerUrl, async (owner) => {
    await owner.query('begin');
    await owner.query('lock table graphile_migrate.migrations');
    const { ready, failures } = wait(
      changed((url) => url.searchParams.set('options', '-c lock_timeout=50ms')),
    );
    await expect.poll(failures).toBeGreaterThan(0);
    await owner.query('rollback');
    await ready;
  });
});

test('a server that is away, full or closed is waited for, and the signal ends that', async () => {
  const closed = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => closed.once('listening', resolve));
  const { port } = closed.address() as AddressInfo;
  await new Promise((resolve) => closed.close(resolve));
  const away = [
    wait(changed((url) => (url.port = String(port)))),
    // A name that a container has only while it runs.
    wait(changed((url) => (url.hostname = 'halyard.invalid'))),
  ];
  await asRoot(`alter database ${database.name} connection limit 0`);
  const full = wait();
  await expect.poll(() => full.failures()).toBeGreaterThan(1);
  await asRoot(`alter database ${database.name} connection limit -1 allow_connections false`);
  const refused = wait();
  for (const one of [...away, refused]) {
    await expect.poll(() => one.failures(), { timeout: 15_000 }).toBeGreaterThan(1);
    one.stop.abort(new Error('of the test'));
    await expect(one.ready).rejects.toThrow('of the test');
    expect(one.said('warn')).toHaveLength(1);
  }
  await asRoot(`alter database ${database.name} allow_connections true`);
  await full.ready;
  expect([full.said('warn').length, full.said('info').length]).toEqual([1, 1]);
});

test('a connection that breaks is waited for', async () => {
  const { hostname, port } = new URL(database.workerUrl);
  await using proxy = await startTcpProxy({ host: hostname, port: Number(port) });
  proxy.refuse();
  const { ready, failures } = wait(
    changed((url) => Object.assign(url, { hostname: '127.0.0.1', port: String(proxy.port) })),
  );
  await expect.poll(failures).toBeGreaterThan(0);
  proxy.accept();
  await ready;
});

test('migrations are waited for, for as long as is asked', async () => {
  const rename = (from: string, to: string) =>
    withClient(database.ownerUrl, (owner) =>
      owner.query('update graphile_migrate.migrations set filename = $2 where filename = $1', [
        from,
        to,
      ]),
    );
  const { rows } = await withClient(database.ownerUrl, (owner) =>
    owner.query<{ newest: string }>(
      'select max(filename) as newest from graphile_migrate.migrations',
    ),
  );
  const newest = rows[0]?.newest ?? '';
  await rename(newest, '000000.sql');
  await expect(wait(database.workerUrl, 0).ready).rejects.toThrow(NotMigratedError);
  await expect(wait(withDatabase(database.workerUrl, 'postgres'), 0).ready).rejects.toThrow(
    'npm run halyard -- migrate',
  );
  const patient = wait();
  await expect.poll(patient.failures).toBeGreaterThan(1);
  await rename('000000.sql', newest);
  await patient.ready;
  expect([patient.said('warn').length, patient.said('info').length]).toEqual([1, 1]);
});
