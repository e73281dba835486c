import { readFileSync } from 'node:fs';
import { realpath } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Schedule } from '../../src/schemas.ts';
import { makeDataDir, removeDataDir } from '../support/postgres_server.ts';
import { startProcess, type HalyardProcess } from '../support/processes.ts';

describe('npm start -- --demo', () => {
  let usual: string;
  let dataDir: string;
  let halyard: HalyardProcess;
  let url: string;

  async function boot(): Promise<void> {
    halyard = startProcess('node', ['src/main.ts', 'start', '--demo'], {
      env: { PORT: '0', HALYARD_DATA_DIR: usual },
    });
    url = (await halyard.waitFor(/REST\s+(http:\/\/\S+)\/api/, 90_000))[1] ?? '';
    await halyard.waitFor(/Ctrl-C stops everything/);
  }

  const tokenOf = (name: string): string =>
    new RegExp(`export ${name}=(\\S+)`).exec(halyard.stdout())?.[1] ?? '';

  async function get<T>(path: string, name = 'ALICE'): Promise<T> {
    const headers = { authorization: `Bearer ${tokenOf(name)}` };
    return (await (await fetch(`${url}/api/admin${path}`, { headers })).json()) as T;
  }

  const flags = async (): Promise<string[]> => {
    const lists = ['production', 'staging'].map((name) =>
      get<{ flag_key: string }[]>(`/flags?environment=${name}`),
    );
    return (await Promise.all(lists)).flat().map(({ flag_key: key }) => key);
  };
  const schedules = () => get<Schedule[]>('/schedules?limit=100');

  beforeAll(async () => {
    dataDir = await makeDataDir();
    usual = join(dataDir, 'data');
    await boot();
  });

  afterAll(async () => {
    await halyard.end();
    await removeDataDir(dataDir, await realpath(join(`${usual}-demo`, 'postgres')));
  });

  test('makes flags, and changes of all kinds in people’s own names', async () => {
    expect(await flags()).toHaveLength(12);
    await expect
      .poll(async () => (await schedules()).map(({ status }) => status))
      .toContain('applied');
    const made = await schedules();
    expect(new Set(made.map(({ created_by: by }) => by))).toEqual(new Set(['alice', 'bob']));
    expect(made.filter(({ status }) => status === 'cancelled')).toHaveLength(1);
    expect(made.filter(({ revision, status }) => status === 'pending' && revision > 1)).not.toEqual(
      [],
    );
    // A release at one instant, a minute and a half after it has begun, and what sets one flag to two states at one instant.
    const instants = Map.groupBy(made, (one) => `${one.scheduled_at} ${one.environment}`);
    expect(
      [...instants.values()]
        .map((one) => one.length)
        .toSorted()
        .slice(-2),
    ).toEqual([2, 3]);
    const events = readFileSync(join(`${usual}-demo`, 'trail.log'), 'utf8').match(/"seq"/g) ?? [];
    expect(events.length).toBeGreaterThan(40);
  });

  test('has a change that fails by a rule of the database', async () => {
    const failing = async () =>
      (await schedules()).find(({ error_message: problem }) => problem !== null)?.error_message;
    await expect.poll(failing).toContain('legacy_cart_at_most_half');
  });

  test('has a release, a plan that meets a conflict, and one that is suspended for one', async () => {
    const plans = () =>
      get<{ title: string; suspended_for: string | null; id: string }[]>('/plans?limit=10');
    await expect
      .poll(async () => (await plans()).map(({ suspended_for: cause }) => cause))
      .toContain('conflict');
    const found = await plans();
    expect(found.map(({ title }) => title)).toEqual([
      ...['Black Friday', 'The new checkout for all', 'Gift cards for half of the users'],
    ]);
    const id = found[1]?.id ?? '';
    expect(await get(`/plans/${id}`)).toMatchObject({
      conflicts: [
        { flag_key: 'checkout-v2', field: 'rollout_percentage', expected: 25, found: 50 },
      ],
    });
  });

  test('gives bob staging alone, and carol the trail', async () => {
    expect(await get('/flags', 'BOB')).toMatchObject({ code: 'environment_not_found' });
    expect(await get('/audit/events?limit=3', 'CAROL')).toHaveLength(3);
  });

  test('goes on with what is there at the next start', async () => {
    const before = (await schedules()).map(({ id }) => id).toSorted();
    await halyard.end();
    await boot();
    expect((await schedules()).map(({ id }) => id).toSorted()).toEqual(before);
    expect(await flags()).toHaveLength(12);
  });
});
