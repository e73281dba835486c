import { realpath } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { spreadOf } from '../../bench/measure.ts';
import { makeDataDir, removeDataDir } from '../support/postgres_server.ts';
import { hasProgram, startProcess, type HalyardProcess } from '../support/processes.ts';

/** How late a running product may apply half of its schedules, at most: a busy machine holds up one now and then. */
const LATEST_MS = 250;

interface Schedule {
  id: string;
  status: string;
  created_by: string | null;
  scheduled_at: string;
  applied_at: string | null;
}

interface ShippedEvent {
  eventType: string;
  seq: number;
  metadata: { scheduleId?: string; latenessMs?: number; flagState?: { enabled: boolean } };
}

describe('npm start', () => {
  let dataDir: string;
  let halyard: HalyardProcess;
  let url: string;
  let admin: string;

  async function boot(command = ['npm', 'start']): Promise<void> {
    const [file = '', ...args] = command;
    halyard = startProcess(file, args, { env: { PORT: '0', HALYARD_DATA_DIR: dataDir } });
    url = (await halyard.waitFor(/REST\s+(http:\/\/\S+)\/api/, 60_000))[1] ?? '';
    admin = (await halyard.waitFor(/export ADMIN=(\S+)/))[1] ?? '';
    await halyard.waitFor(/Ctrl-C stops everything/);
  }

  async function call(
    method: string,
    path: string,
    body?: object,
  ): Promise<{ status: number; body: unknown }> {
    const response = await fetch(`${url}${path}`, {
      method,
      headers: { authorization: `Bearer ${admin}`, 'content-type': 'application/json' },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    return { status: response.status, body: await response.json() };
  }

  function shipped(): ShippedEvent[] {
    return halyard
      .stdout()
      .split('\n')
      .filter((line) => line.startsWith('{"eventType"'))
      .map((line) => JSON.parse(line) as ShippedEvent);
  }

  async function scheduleIn(flagKey: string, ms: number): Promise<Schedule> {
    const { status, body } = await call('POST', `/api/admin/flags/${flagKey}/schedule`, {
      scheduled_at: new Date(Date.now() + ms).toISOString(),
      updates: { enabled: true },
    });
    expect(status).toBe(201);
    return body as Schedule;
  }

  function appliedEvent(schedule: Schedule): Promise<ShippedEvent> {
    return vi.waitUntil(
      () =>
        shipped().find(
          (event) =>
            event.eventType === 'flag_schedule.applied' &&
            event.metadata.scheduleId === schedule.id,
        ),
      { timeout: 15_000 },
    );
  }

  beforeAll(async () => {
    dataDir = await makeDataDir();
    await boot();
  });

  afterAll(async () => {
    await halyard.end();
    await removeDataDir(dataDir, await realpath(join(dataDir, 'postgres')));
  });

  test('is ready, and applies schedules within 250 ms of their time', async () => {
    expect((await fetch(`${url}/readyz`)).status).toBe(200);
    expect((await call('POST', '/api/admin/flags', { flag_key: 'wishlist-gallery' })).status).toBe(
      201,
    );

    // Spread over a second, so that a look each second would find most of them late.
    const schedules = await Promise.all(
      [1_000, 1_200, 1_400, 1_600, 1_800].map((ms) => scheduleIn('wishlist-gallery', ms)),
    );
    const events = await Promise.all(schedules.map(appliedEvent));

    expect(schedules[0]?.created_by).toBe('alice');
    expect(events[0]?.metadata.flagState).toEqual({ enabled: true, rolloutPercentage: 100 });
    const lateness = events.map(({ metadata }) => Number(metadata.latenessMs));
    expect(Math.min(...lateness)).toBeGreaterThanOrEqual(0);
    expect(spreadOf(lateness).median).toBeLessThanOrEqual(LATEST_MS);
    const flag = await call('GET', '/api/admin/flags/wishlist-gallery');
    expect(flag.body).toMatchObject({ enabled: true });
  });

  // They are for a person's terminal, which has curl; a bare machine may have none.
  test.skipIf(!hasProgram('curl'))(
    'prints three requests that work when they are pasted into a shell',
    async () => {
      const requests = halyard
        .stdout()
        .split('\n\n')
        .filter((block) => block.startsWith('curl '))
        // The first test has made the flag of the example.
        .map((block) => block.replaceAll('wishlist-gallery', 'pasted'));
      expect(requests).toHaveLength(3);
      const tokens = `export ADMIN=${admin}`;
      const answers: unknown[] = [];
      for (const request of requests) {
        const shell = startProcess('sh', ['-c', `${tokens}\n${request}`]);
        expect(await shell.exited).toBe(0);
        answers.push(JSON.parse(shell.stdout()));
      }
      expect(answers).toMatchObject([
        { flag_key: 'pasted', enabled: false },
        { flag_key: 'pasted', status: 'pending', created_by: 'alice' },
        {
          data: {
            auditEvents: { nodes: [{ eventType: 'flag_schedule.created' }, {}, {}, {}, {}] },
          },
        },
      ]);
    },
  );

  test('stops in order at SIGTERM, keeps its data, and applies what came due meanwhile', async () => {
    await call('POST', '/api/admin/flags', { flag_key: 'sleeper' });
    const schedule = await scheduleIn('sleeper', 1_500);
    // To npm alone, as a service manager or a script does.
    halyard.child.kill('SIGTERM');
    await expect.poll(halyard.stderr, { timeout: 30_000 }).toMatch(/"msg":"stopping"/);
    expect(await halyard.exited).toBe(0);
    expect(halyard.stderr()).not.toMatch(/"level":"(warn|error)"/);

    // Without npm, which has an exit code of its own.
    await boot(['node', 'src/main.ts', 'start']);
    const event = await appliedEvent(schedule);

    expect(event.metadata.flagState).toMatchObject({ enabled: true });
    expect(shipped().map((one) => one.seq)).not.toContain(1);
    expect(await halyard.end('SIGINT')).toBe(0);
    await boot();
  });

  test('starts again after kill -9, with nothing lost', async () => {
    await call('POST', '/api/admin/flags', { flag_key: 'phoenix' });
    const schedule = await scheduleIn('phoenix', 1_500);
    await halyard.end('SIGKILL');

    await boot();
    await appliedEvent(schedule);

    const list = await call('GET', '/api/admin/flags/phoenix/schedule');
    expect(list.body).toMatchObject([{ id: schedule.id, status: 'applied', created_by: 'alice' }]);
  });

  test('a second copy with the same data folder says what is wrong and leaves the first alone', async () => {
    const second = startProcess('npm', ['start'], {
      env: { PORT: '0', HALYARD_DATA_DIR: dataDir },
    });
    expect(await second.exited).not.toBe(0);
    expect(second.stderr()).toMatch(/HALYARD_DATA_DIR/);
    // A sentence for a person, and no stack.
    expect(second.stderr()).not.toMatch(/^ +at /m);
    expect((await fetch(`${url}/readyz`)).status).toBe(200);
  });

  test('goes on when nobody reads its standard output', async () => {
    await halyard.end('SIGTERM');
    halyard = startProcess('node', ['src/main.ts', 'start'], {
      env: {
        PORT: '0',
        HALYARD_DATA_DIR: dataDir,
        AUDIT_SINK: 'cloudwatch',
        AWS_REGION: 'eu-west-1',
        AWS_ACCESS_KEY_ID: 'none',
        AWS_SECRET_ACCESS_KEY: 'none',
        AWS_ENDPOINT_URL_CLOUDWATCH_LOGS: 'http://127.0.0.1:1',
      },
    });
    halyard.child.stdout?.destroy();
    await halyard.waitFor(/"code":"EPIPE"/, 60_000);
    const [, address] = await halyard.waitFor(/"url":"([^"]+)","msg":"the API is listening"/);
    expect((await fetch(`${address ?? ''}/readyz`)).status).toBe(200);
  });
});
