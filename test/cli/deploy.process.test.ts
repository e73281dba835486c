import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, inject, onTestFinished, test } from 'vitest';
import { signToken } from '../../src/auth/token.ts';
import { loginsTo } from '../support/migrated.ts';
import { startProcess, type HalyardProcess } from '../support/processes.ts';

const SECRET = randomBytes(48).toString('base64');

/** A production deployment, step by step, each step a process of its own. */
describe('setup, migrate, worker, api', () => {
  const database = `${inject('template')}_deploy`;
  // The passwords that the other tests' logins have: roles belong to the server.
  const logins = loginsTo(inject('rootUrl'), inject('password'), database);
  const urls = {
    ROOT_DATABASE_URL: inject('rootUrl'),
    DATABASE_URL: logins.ownerUrl,
    AUTH_DATABASE_URL: logins.authenticatorUrl,
    WORKER_DATABASE_URL: logins.workerUrl,
  };
  const running: HalyardProcess[] = [];

  function run(command: string, env: Record<string, string> = {}): HalyardProcess {
    const started = startProcess('node', ['src/main.ts', command], {
      env: { NODE_ENV: 'production', PORT: '0', ...env },
    });
    running.push(started);
    return started;
  }

  async function scheduleAndWait(apiUrl: string, flagKey: string): Promise<void> {
    const token = signToken({ secret: SECRET, role: 'admin', userId: 'alice' });
    const post = (path: string, body: object) =>
      fetch(`${apiUrl}${path}`, {
        method: 'POST',
        headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
        body: JSON.stringify(body),
      });
    expect((await post('/api/admin/flags', { flag_key: flagKey })).status).toBe(201);
    const schedule = await post(`/api/admin/flags/${flagKey}/schedule`, {
      scheduled_at: new Date(Date.now() + 3_000).toISOString(),
      updates: { rollout_percentage: 5 },
    });
    expect(schedule.status).toBe(201);
    const percentage = async () => {
      const flag = await fetch(`${apiUrl}/api/admin/flags/${flagKey}`, {
        headers: { authorization: `Bearer ${token}` },
      });
      return ((await flag.json()) as { rollout_percentage: number }).rollout_percentage;
    };
    await expect.poll(percentage, { timeout: 15_000 }).toBe(5);
  }

  beforeAll(async () => {
    expect(await run('setup', urls).exited).toBe(0);
    expect(await run('migrate', { DATABASE_URL: urls.DATABASE_URL }).exited).toBe(0);
  });

  afterAll(async () => {
    await Promise.all(running.map((one) => one.end('SIGKILL')));
    const client = new pg.Client({ connectionString: inject('rootUrl') });
    await client.connect();
    await client.query(`drop database if exists ${database} with (force)`);
    await client.end();
  });

  test('setup and migrate are harmless when they are repeated, and migrate when two run at once', async () => {
    expect(await run('setup', urls).exited).toBe(0);
    const migrate = () => run('migrate', { DATABASE_URL: urls.DATABASE_URL }).exited;
    expect(await Promise.all([migrate(), migrate()])).toEqual([0, 0]);
  });

  test('worker and api work with their own logins only, and drain at SIGTERM', async () => {
    const worker = run('worker', { WORKER_DATABASE_URL: urls.WORKER_DATABASE_URL });
    await worker.waitFor(/the worker is running/);
    const api = run('api', { AUTH_DATABASE_URL: urls.AUTH_DATABASE_URL, JWT_SECRET: SECRET });
    const [, apiUrl = ''] = await api.waitFor(/"url":"(http:[^"]+)"/);

    await scheduleAndWait(apiUrl, 'deployed');
    const answer = await fetch(`${apiUrl}/graphql`, {
      method: 'POST',
      headers: {
        authorization: `Bearer ${signToken({ secret: SECRET, role: 'viewer' })}`,
        'content-type': 'application/json',
      },
      body: JSON.stringify({ query: '{ featureFlags { nodes { flagKey rolloutPercentage } } }' }),
    });
    expect(await answer.json()).toEqual({
      data: { featureFlags: { nodes: [{ flagKey: 'deployed', rolloutPercentage: 5 }] } },
    });
    await worker.waitFor(/"eventType": "flag_schedule.applied"/);

    expect(await api.end('SIGTERM')).toBe(0);
    expect(await worker.end('SIGTERM')).toBe(0);
    expect(api.stderr() + worker.stderr()).not.toMatch(/"level":"(warn|error)"/);
  });

  test('what an api killed by kill -9 has accepted is applied by a worker started later', async () => {
    const api = run('api', { AUTH_DATABASE_URL: urls.AUTH_DATABASE_URL, JWT_SECRET: SECRET });
    const [, apiUrl = ''] = await api.waitFor(/"url":"(http:[^"]+)"/);
    const token = signToken({ secret: SECRET, role: 'admin', userId: 'alice' });
    const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' };
    const body = {
      // Far enough ahead that a busy machine takes the request in time.
      scheduled_at: new Date(Date.now() + 3_000).toISOString(),
      updates: { enabled: true },
    };
    const accepted = await fetch(`${apiUrl}/api/admin/flags/deployed/schedule`, {
      method: 'POST',
      headers,
      body: JSON.stringify(body),
    });
    expect(accepted.status).toBe(201);
    const { id } = (await accepted.json()) as { id: string };
    await api.end('SIGKILL');

    const worker = run('worker', { WORKER_DATABASE_URL: urls.WORKER_DATABASE_URL });
    await worker.waitFor(new RegExp(`"flag_schedule.applied".*"scheduleId": "${id}"`));
    await worker.end('SIGTERM');
  });

  test.each([
    ['setup', ['ROOT_DATABASE_URL', 'DATABASE_URL', 'AUTH_DATABASE_URL', 'WORKER_DATABASE_URL']],
    ['migrate', ['DATABASE_URL']],
    ['api', ['AUTH_DATABASE_URL', 'JWT_SECRET or JWT_JWKS_URI']],
    ['worker', ['WORKER_DATABASE_URL']],
  ])('%s without its settings stops at once and names them all', async (command, missing) => {
    const process = run(command);
    expect(await process.exited).toBe(1);
    for (const name of missing) expect(process.stderr()).toContain(`Set ${name}`);
    expect(process.stderr()).not.toMatch(/^\s+at /m);
  });

  test('a worker on a database that is not migrated says what to do, and waits for it', async () => {
    const empty = new URL(urls.WORKER_DATABASE_URL);
    empty.pathname = '/postgres';
    const worker = run('worker', { WORKER_DATABASE_URL: empty.href });
    await worker.waitFor(/run \\"npm run halyard -- migrate\\" first/);
    expect(await worker.end('SIGTERM')).toBe(0);
  });

  test('a worker that is to deliver to CloudWatch without a region says so, without waiting for a database', async () => {
    const away = new URL(urls.WORKER_DATABASE_URL);
    away.port = '1';
    const worker = run('worker', {
      WORKER_DATABASE_URL: away.href,
      AUDIT_SINK: 'cloudwatch',
      // The SDK also looks into files of the home folder.
      HOME: '/nonexistent',
      AWS_EC2_METADATA_DISABLED: 'true',
    });
    expect(await worker.exited).toBe(1);
    expect(worker.stderr()).toContain('Set AWS_REGION');
  });

  test('so does a start, before it makes a cluster', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'halyard-no-region-'));
    onTestFinished(() => rm(folder, { recursive: true }));
    const dataDir = join(folder, 'data');
    const starting = run('start', {
      NODE_ENV: 'development',
      ...{ HALYARD_DATA_DIR: dataDir, PORT: '0', METRICS_PORT: '0' },
      ...{ AUDIT_SINK: 'cloudwatch', HOME: '/nonexistent', AWS_EC2_METADATA_DISABLED: 'true' },
    });
    expect(await starting.exited).toBe(1);
    expect(starting.stderr()).toContain('Set AWS_REGION');
    expect(existsSync(dataDir)).toBe(false);
  });

  test('token prints a token and nothing else, and refuses what the API would', async () => {
    const good = startProcess(
      'node',
      [
        'src/main.ts',
        'token',
        '--role',
        'admin',
        '--user-id',
        'alice',
        '--environments',
        'staging',
      ],
      { env: { JWT_SECRET: SECRET } },
    );
    expect(await good.exited).toBe(0);
    expect(good.stdout()).toMatch(/^[\w-]+\.[\w-]+\.[\w-]+\n$/);
    const bad = startProcess('node', ['src/main.ts', 'token', '--role', 'king'], {
      env: { JWT_SECRET: SECRET },
    });
    expect(await bad.exited).toBe(2);
    expect(bad.stdout()).toBe('');
  });
});
