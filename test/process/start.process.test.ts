import { appendFileSync, readFileSync, statSync } from 'node:fs';
import { realpath } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { Browser } from '../support/browser.ts';
import { makeDataDir, removeDataDir } from '../support/postgres_server.ts';
import { hasProgram, startProcess, type HalyardProcess } from '../support/processes.ts';

/** util-linux has a terminal to run a command in. */
const HAS_TERMINAL = process.platform === 'linux' && hasProgram('script');

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
  metadata: {
    flagKey?: string;
    scheduleId?: string;
    latenessMs?: number;
    flagState?: { enabled: boolean };
  };
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

  const trailFile = () => join(dataDir, 'trail.log');
  const linesIn = (text: string) =>
    text.split('\n').filter((line) => /^\{"eventType".*\}$/.test(line));

  /** What trail.log has. */
  function shipped(): ShippedEvent[] {
    return linesIn(readFileSync(trailFile(), 'utf8')).map(
      (line) => JSON.parse(line) as ShippedEvent,
    );
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

  /** In a terminal: no JSON but in the requests to paste, and a line for what has happened. */
  async function expectShortLines(): Promise<void> {
    await halyard.waitFor(/^\d\d:\d\d:\d\d {2}schedule applied +sleeper .* late\r?$/m);
    expect(halyard.stdout()).toMatch(/^\d\d:\d\d:\d\d {2}the API is listening/m);
    expect(halyard.stdout()).not.toMatch(/^\{/m);
  }

  beforeAll(async () => {
    dataDir = await makeDataDir();
    await boot();
  });

  afterAll(async () => {
    await halyard.end();
    await removeDataDir(dataDir, await realpath(join(dataDir, 'postgres')));
  });

  test('is ready, and applies schedules', async () => {
    expect((await fetch(`${url}/readyz`)).status).toBe(200);
    expect((await call('POST', '/api/admin/flags', { flag_key: 'wishlist-gallery' })).status).toBe(
      201,
    );

    const schedule = await scheduleIn('wishlist-gallery', 500);
    const { metadata } = await appliedEvent(schedule);

    expect(schedule.created_by).toBe('alice');
    expect(metadata.flagState).toEqual({ enabled: true, rolloutPercentage: 100 });
    // How late at most is in lateness.process.test.ts.
    expect(metadata.latenessMs).toBeGreaterThanOrEqual(0);
    const flag = await call('GET', '/api/admin/flags/wishlist-gallery');
    expect(flag.body).toMatchObject({ enabled: true });
  });

  test('keeps the copy of the trail in trail.log, and pipes the same lines', async () => {
    expect(statSync(trailFile()).mode & 0o777).toBe(0o600);
    await expect
      .poll(() => linesIn(halyard.stdout()))
      .toEqual(linesIn(readFileSync(trailFile(), 'utf8')));
    expect(halyard.stdout()).toContain(`rm -rf ${dataDir}`);
  });

  test('prints a link that signs alice in at the console, once', async () => {
    const [, link = ''] = await halyard.waitFor(/Console +(http:\S+\/console\/enter\?code=\S+)/);
    const browser = new Browser(url);
    expect((await browser.visit(`GET ${link}`)).headers.location).toBe('/console/');
    const flags = await browser.visit('GET /api/admin/flags', { byPage: true });
    expect(flags.status).toBe(200);
    const again = await new Browser(url).visit(`GET ${link}`);
    expect(again.headers.location).toBe('/console/sign-in?reason=link_used');
  });

  // They are for a person's terminal, which has curl; a bare machine may have none.
  test.skipIf(!hasProgram('curl'))(
    'prints three requests that work when they are pasted into a shell, and once more',
    async () => {
      const requests = halyard
        .stdout()
        .split('\n\n')
        .filter((block) => block.startsWith('curl '))
        // The first test has made the flag of the example.
        .map((block) => block.replaceAll('wishlist-gallery', 'pasted'));
      expect(requests).toHaveLength(3);
      const answers: unknown[] = [];
      for (const request of [...requests, ...requests.slice(0, 2)]) {
        const shell = startProcess('sh', ['-c', `export ADMIN=${admin}\n${request}`]);
        expect(await shell.exited).toBe(0);
        expect(shell.stdout()).toMatch(/^\{.*\}\n$/);
        answers.push(JSON.parse(shell.stdout()));
      }
      const flag = { flag_key: 'pasted', enabled: false };
      const schedule = { flag_key: 'pasted', status: 'pending', created_by: 'alice' };
      const nodes = [{ eventType: 'flag_schedule.created' }, {}, {}, {}, {}];
      expect(answers).toMatchObject([
        ...[flag, schedule, { data: { auditEvents: { nodes } } }],
        ...[flag, schedule],
      ]);
    },
  );

  test('starts again after kill -9, with nothing lost', async () => {
    await call('POST', '/api/admin/flags', { flag_key: 'phoenix' });
    const schedule = await scheduleIn('phoenix', 1_500);
    await halyard.end('SIGKILL');
    // As where the process died in the middle of a line.
    appendFileSync(trailFile(), '{"eventType": "flag_sche');

    await boot();
    await appliedEvent(schedule);

    const list = await call('GET', '/api/admin/flags/phoenix/schedule');
    expect(list.body).toMatchObject([{ id: schedule.id, status: 'applied', created_by: 'alice' }]);
  });

  test('trail.log agrees with the database, in spite of the line that was cut short', async () => {
    const verify = startProcess(
      'node',
      ['src/main.ts', 'audit', 'verify', '--anchors', trailFile()],
      { env: { HALYARD_DATA_DIR: dataDir } },
    );
    expect([await verify.exited, verify.stderr()]).toEqual([0, '']);
    expect(verify.stdout()).toMatch(/The copy has every event from 1 to \d+/);
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

  test('stops in order at SIGTERM, keeps its data, and applies what came due meanwhile', async () => {
    await call('POST', '/api/admin/flags', { flag_key: 'sleeper' });
    const schedule = await scheduleIn('sleeper', 1_500);
    const since = await vi.waitUntil(
      () => shipped().find(({ metadata }) => metadata.flagKey === 'sleeper')?.seq,
      { timeout: 15_000 },
    );
    // To npm alone, as a service manager or a script does.
    halyard.child.kill('SIGTERM');
    await expect.poll(halyard.stderr, { timeout: 30_000 }).toMatch(/"msg":"stopping"/);
    expect(await halyard.exited).toBe(0);
    expect(halyard.stderr()).not.toMatch(/"level":"(warn|error)"/);

    // Without npm, which has an exit code of its own.
    const start = ['node', 'src/main.ts', 'start'];
    await boot(HAS_TERMINAL ? ['script', '-qec', start.join(' '), '/dev/null'] : start);
    const event = await appliedEvent(schedule);

    expect(event.metadata.flagState).toMatchObject({ enabled: true });
    // Nothing is missing. What kill -9 cut off may have come twice, but no stop in order repeats.
    const seqs = shipped().flatMap(({ seq }: { seq?: number }) => seq ?? []);
    const all = [...new Set(seqs)];
    expect(all).toEqual(all.map((_, i) => i + 1));
    expect(seqs.filter((seq) => seq >= since)).toEqual(all.filter((seq) => seq >= since));
    if (HAS_TERMINAL) await expectShortLines();
    process.kill(Number(readFileSync(join(dataDir, 'halyard.pid'), 'utf8')), 'SIGINT');
    expect(await halyard.exited).toBe(0);
  });

  test('goes on when nobody reads its standard output', async () => {
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
