import { once } from 'node:events';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { withDatabase } from '../../src/postgres/setup.ts';
import { callApi } from '../support/api.ts';
import { readValue } from '../../src/postgres/value.ts';
import { useDatabase, withClient } from '../support/database.ts';
import { scrape } from '../support/metrics.ts';
import { startProcess, type HalyardProcess } from '../support/processes.ts';
import { startTcpProxy, type TcpProxy } from '../support/tcp_proxy.ts';
import { adminToken, TEST_SECRET } from '../support/tokens.ts';
import { countByStatus, insertDue } from '../support/worker.ts';

const database = useDatabase();
const soon = { timeout: 30_000, interval: 50 };

/** A way to the database that can be cut; it is cut at first. */
async function startCutProxy(): Promise<TcpProxy> {
  const { hostname, port } = new URL(database.workerUrl);
  const proxy = await startTcpProxy({ host: hostname, port: Number(port) });
  proxy.refuse();
  return proxy;
}

/** A server that takes connections and never says a word. */
async function listenSilently() {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => void sockets.add(socket)).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}

function through(url: string, { port }: TcpProxy): string {
  return Object.assign(new URL(url), { hostname: '127.0.0.1', port: String(port) }).href;
}

function spawn(command: string, env: Record<string, string>): HalyardProcess {
  const started = startProcess(process.execPath, ['src/main.ts', command], {
    env: { NODE_ENV: 'production', PORT: '0', METRICS_PORT: '0', JWT_SECRET: TEST_SECRET, ...env },
  });
  onTestFinished(async () => {
    await started.end('SIGKILL');
  });
  return started;
}

interface Line {
  readonly level: string;
  readonly msg: string;
  /** Of lines about a pool of connections, which a process has several of. */
  readonly pool?: string;
}

/** Its log; fails when a line of stderr is no line of the log. */
function logOf({ stderr }: HalyardProcess): Line[] {
  return stderr()
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Line);
}

/** What it has warned of, each message as often as it came. */
function warningsOf(process: HalyardProcess): string[] {
  return logOf(process)
    .filter(({ level }) => level === 'warn' || level === 'error' || level === 'fatal')
    .map(({ msg, pool }) => (pool === undefined ? msg : `${msg} (${pool})`));
}

const addressIn = async (process: HalyardProcess, message: string) =>
  (await process.waitFor(new RegExp(`"url":"(http:[^"]+)","msg":"${message}"`)))[1] ?? '';

async function readiness(url: string): Promise<unknown[]> {
  const { status, body } = await callApi(url, 'GET /readyz');
  return [status, (body as { reason?: string }).reason];
}

test('api and worker wait for a database that is away, and outlive an outage with few words', async () => {
  await using proxy = await startCutProxy();
  const api = spawn('api', { AUTH_DATABASE_URL: through(database.authenticatorUrl, proxy) });
  const worker = spawn('worker', { WORKER_DATABASE_URL: through(database.workerUrl, proxy) });
  const apiUrl = await addressIn(api, 'the API is listening');
  const workerMetrics = await addressIn(worker, 'metrics are served');
  const isHealthy = async () => (await scrape(workerMetrics)).get('halyard_worker_healthy');
  const flags = async () =>
    (await callApi(apiUrl, 'GET /api/admin/flags', { token: adminToken() })).status;
  const graphql = async () =>
    (
      await callApi(apiUrl, 'POST /graphql', {
        token: adminToken(),
        json: { query: '{ featureFlags(first: 1) { nodes { flagKey } } }' },
      })
    ).status;

  await Promise.all([api, worker].map((one) => one.waitFor(/waiting for the database/)));
  expect(await readiness(apiUrl)).toEqual([503, 'database_unavailable']);
  expect(await isHealthy()).toBe(0);
  expect([await flags(), await graphql()]).toEqual([503, 503]);

  proxy.accept();
  await expect.poll(() => readiness(apiUrl), soon).toEqual([200, undefined]);
  await expect.poll(isHealthy, soon).toBe(1);
  expect([await flags(), await graphql()]).toEqual([200, 200]);
  await withClient(database.ownerUrl, async (owner) => {
    await insertDue(owner, { count: 2, dueIn: '100 ms' });
    await expect.poll(() => countByStatus(owner), soon).toStrictEqual({ applied: 2 });
  });
  for (const one of [api, worker]) {
    const waits = logOf(one).filter(({ msg }) => msg === 'waiting for the database');
    expect(waits.map(({ level }) => level)).toEqual(['warn']);
    expect(one.stderr()).toMatch(/"afterSeconds":[\d.]+,"msg":"the database is there"/);
  }

  const before = [warningsOf(api).length, warningsOf(worker).length];
  proxy.refuse();
  await expect.poll(() => readiness(apiUrl), soon).toEqual([503, 'database_unavailable']);
  await expect.poll(isHealthy, soon).toBe(0);
  for (let i = 0; i < 10; i++) expect([await flags(), await graphql()]).toEqual([503, 200]);
  // graphile-worker's own listener tries again after about 0.1, 0.3, 0.9, 2.5 s: that is long enough for all of them to have tried.
  await worker.waitFor(/"msg":"no jobs are taken"/);
  const refused = proxy.refused();
  await expect.poll(() => proxy.refused() - refused, soon).toBeGreaterThan(25);
  proxy.accept();
  await expect.poll(() => readiness(apiUrl), soon).toEqual([200, undefined]);
  await expect.poll(isHealthy, soon).toBe(1);
  await worker.waitFor(/"msg":"jobs are taken again"/);
  await worker.waitFor(/"msg":"listening for notifications again"/);

  const after = [warningsOf(api).slice(before[0]), warningsOf(worker).slice(before[1])];
  // One for each part, however often it tried.
  for (const warnings of after) expect(warnings).toEqual([...new Set(warnings)]);

  proxy.refuse();
  await expect.poll(isHealthy, soon).toBe(0);
  expect(await Promise.all([api.end('SIGTERM'), worker.end('SIGTERM')])).toEqual([0, 0]);
  logOf(worker);
});

test('an api serves while a server that is silent makes it wait', async () => {
  await using silent = await listenSilently();
  const url = Object.assign(new URL(database.authenticatorUrl), {
    hostname: '127.0.0.1',
    port: String(silent.port),
  });
  const api = spawn('api', { AUTH_DATABASE_URL: url.href });
  const apiUrl = await addressIn(api, 'the API is listening');
  // The first try is not over yet.
  expect(api.stderr()).not.toContain('waiting for the database');
  expect((await callApi(apiUrl, 'GET /healthz')).status).toBe(200);
  expect(await readiness(apiUrl)).toEqual([503, 'database_unavailable']);
});

test('start waits too, a signal ends a start that waits, and so does what waiting does not mend', async () => {
  await using proxy = await startCutProxy();
  const env = {
    DATABASE_URL: through(database.ownerUrl, proxy),
    AUTH_DATABASE_URL: through(database.authenticatorUrl, proxy),
    WORKER_DATABASE_URL: through(database.workerUrl, proxy),
  };
  const wrong = new URL(env.AUTH_DATABASE_URL);
  wrong.password = 'gr8secret';
  const [patient, start, api, worker, mistaken] = [
    spawn('start', env),
    spawn('start', {
      ...env,
      ROOT_DATABASE_URL: withDatabase(through(database.rootUrl, proxy), 'postgres'),
    }),
    spawn('api', env),
    spawn('worker', env),
    spawn('api', { AUTH_DATABASE_URL: wrong.href }),
  ] as const;
  const url = await addressIn(patient, 'the API is listening');
  expect(await readiness(url)).toEqual([503, 'database_unavailable']);
  for (const one of [start, api, worker]) {
    await one.waitFor(/waiting for the database/);
    expect(await one.end('SIGTERM')).toBe(0);
    expect(warningsOf(one)).toEqual(['waiting for the database']);
  }
  // The one that it is waiting for.
  expect(start.stderr()).toMatch(/"database":"[^"]+\/postgres"/);

  await mistaken.waitFor(/waiting for the database/);
  proxy.accept();
  expect(await mistaken.exited).toBe(1);
  expect(mistaken.stderr().trimEnd().split('\n').at(-1)).toMatch(
    /^The database .* can't be used: /,
  );
  expect(mistaken.stderr()).not.toMatch(/gr8secret|^ +at /m);
  await patient.waitFor(/Halyard is running/);
  expect(await readiness(url)).toEqual([200, undefined]);
  expect(await patient.end('SIGTERM')).toBe(0);
});

test('api and worker wait for the first migration, and go on by themselves after it', async () => {
  const rename = (from: string, to: string) =>
    withClient(database.ownerUrl, (owner) =>
      owner.query('update graphile_migrate.migrations set filename = $2 where filename = $1', [
        from,
        to,
      ]),
    );
  const newest = await withClient(database.ownerUrl, (owner) =>
    readValue<string>(owner, 'select max(filename) from graphile_migrate.migrations'),
  );
  if (newest === undefined) throw new Error('The database is not migrated.');
  await rename(newest, '000000.sql');
  const api = spawn('api', { AUTH_DATABASE_URL: database.authenticatorUrl });
  const worker = spawn('worker', { WORKER_DATABASE_URL: database.workerUrl });
  const url = await addressIn(api, 'the API is listening');
  await worker.waitFor(/waiting for the database/);
  expect(worker.stderr()).toContain('npm run halyard -- migrate');
  expect(await readiness(url)).toEqual([503, 'not_migrated']);
  await rename('000000.sql', newest);
  await worker.waitFor(/the worker is running/);
  await expect.poll(() => readiness(url), soon).toEqual([200, undefined]);
  expect(await Promise.all([api.end(), worker.end()])).toEqual([0, 0]);
});
