import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { ConfigError, loadConfig } from '../../src/config/config.ts';
import { startMetrics } from '../../src/metrics/endpoint.ts';
import { makeTestLog } from '../support/log.ts';
import { scrape, startTestMetrics } from '../support/metrics.ts';
import { startProcess } from '../support/processes.ts';
import { TEST_SECRET } from '../support/tokens.ts';
import { spawnWorker, useFreshDatabase } from '../support/worker.ts';

test('only GET /metrics is answered', async () => {
  const database = await useFreshDatabase();
  const { url } = await startTestMetrics(database.workerUrl);
  const good = await fetch(url);
  expect([good.status, good.headers.get('content-type')]).toEqual([
    200,
    'text/plain; version=0.0.4; charset=utf-8',
  ]);
  const status = async (path: string, method = 'GET') =>
    (await fetch(new URL(path, url), { method })).status;
  expect(await status('/metrics?a=b')).toBe(200);
  expect(await status('/metrics', 'HEAD')).toBe(200);
  for (const path of ['/', '/metrics/', '/METRICS', '/healthz', '/metrics%00'])
    expect(await status(path), path).toBe(404);
  for (const method of ['POST', 'PUT', 'DELETE'])
    expect(await status('/metrics', method)).toBe(404);
});

test('without METRICS_PORT nothing listens, and nothing asks the database', async () => {
  const metrics = await startMetrics({
    config: loadConfig({ NODE_ENV: 'test' }, 'worker'),
    databaseUrl: 'postgres://127.0.0.1:1/none',
    delivers: true,
    log: makeTestLog().log,
  });
  expect(metrics.url).toBeNull();
  expect(await metrics.registry.metrics()).toBe('\n');
  await metrics.close();
});

test('a port that is taken ends the worker before it takes a job', async () => {
  const database = await useFreshDatabase();
  const taken = createServer();
  await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void taken.close());
  const { port } = taken.address() as AddressInfo;
  const env = { NODE_ENV: 'test', METRICS_PORT: String(port) };
  await expect(
    startTestMetrics(database.workerUrl, { config: loadConfig(env, 'worker') }),
  ).rejects.toThrow(ConfigError);

  const worker = startProcess(process.execPath, ['src/main.ts', 'worker'], {
    env: { ...env, WORKER_DATABASE_URL: database.workerUrl },
  });
  expect(await worker.exited).toBe(1);
  expect(worker.stderr()).toContain('Set METRICS_PORT to a free port');
  expect(worker.stderr()).not.toContain('the worker is running');
});

test('the command serves them until it has stopped, and then ends', async () => {
  const database = await useFreshDatabase();
  const { stderr, end } = await spawnWorker(database, { METRICS_PORT: '0' });
  const url = /"url":"(http:[^"]+\/metrics)"/.exec(stderr.join('\n'))?.[1] ?? '';
  const samples = await scrape(url);
  expect(samples.get('halyard_worker_healthy')).toBe(1);
  expect(samples.has('halyard_http_request_duration_seconds_count')).toBe(false);
  expect(await end('SIGTERM')).toBe(0);
  await expect(fetch(url)).rejects.toThrow();
});

test('start serves API and worker together on a free port, and says where', async () => {
  const database = await useFreshDatabase();
  const halyard = startProcess(process.execPath, ['src/main.ts', 'start'], {
    env: {
      PORT: '0',
      NODE_ENV: 'test',
      JWT_SECRET: TEST_SECRET,
      DATABASE_URL: database.ownerUrl,
      AUTH_DATABASE_URL: database.authenticatorUrl,
      WORKER_DATABASE_URL: database.workerUrl,
    },
  });
  onTestFinished(() => void halyard.end('SIGKILL'));
  const [, url = ''] = await halyard.waitFor(/Metrics +(http:\/\/127\.0\.0\.1:\d+\/metrics)/);
  const samples = await scrape(url);
  expect(samples.get('halyard_worker_healthy')).toBe(1);
  expect(samples.has('halyard_api_pool_waiting')).toBe(true);
  expect(samples.get('halyard_database_up')).toBe(1);
  expect(await halyard.end('SIGTERM')).toBe(0);
});
