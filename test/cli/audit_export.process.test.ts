import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { beforeAll, describe, expect, onTestFinished, test } from 'vitest';

import { useDatabase, withClient } from '../support/database.ts';
import { addEvents, addMany, linesOf } from '../support/export.ts';
import { startProcess } from '../support/processes.ts';

const database = useDatabase();

beforeAll(async () => {
  await withClient(database.ownerUrl, async (client) => {
    await addEvents(client, [
      { flag: 'one', userId: 'alice' },
      { flag: 'two', environment: 'staging' },
      { flag: 'one', type: 'flag_schedule.applied', actorKind: 'system' },
    ]);
  });
});

/** Runs `halyard audit export` on the test's database, as a DBA does. */
const run = (...args: string[]) =>
  runWith({ AUTH_DATABASE_URL: database.authenticatorUrl }, ...args);

async function runWith(env: Record<string, string>, ...args: string[]) {
  const halyard = startProcess('node', ['src/main.ts', 'audit', 'export', ...args], {
    env: { ...env, NODE_ENV: 'production' },
  });
  const status = await halyard.exited;
  return { status, stdout: halyard.stdout(), stderr: halyard.stderr() };
}

async function makeFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'halyard-export-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  return folder;
}

describe('halyard audit export', () => {
  test('prints NDJSON, filtered as by REST, and is in the trail itself', async () => {
    const args = ['--flag', 'one', '--type', 'audit.gap', '--type', 'flag_schedule.applied'];
    const { status, stdout, stderr } = await run(...args);
    expect([status, stderr]).toEqual([0, '']);
    expect(linesOf(stdout)).toMatchObject([{ seq: 3, flag_key: 'one', actor_kind: 'system' }]);
    const { rows } = await withClient(database.ownerUrl, (client) =>
      client.query(
        `select actor_kind, database_user, metadata from audit.events where event_type = 'audit.exported'`,
      ),
    );
    expect(rows).toContainEqual({
      actor_kind: 'database',
      database_user: 'halyard_authenticator',
      metadata: {
        format: 'ndjson',
        follow: false,
        filters: { flag: 'one', type: ['audit.gap', 'flag_schedule.applied'] },
      },
    });
  });

  test.each([
    [
      'type',
      'flag_schedule.aplied',
      /^--type has no type "flag_schedule.aplied": of flag_schedule there are .*applied/,
    ],
    [
      'environment',
      'prodction',
      /^--environment: There is no environment 'prodction'. You may see: .*production/,
    ],
  ])('refuses an unknown %s with status 2, and says what there is', async (name, value, says) => {
    const { status, stdout, stderr } = await run(`--${name}`, value);
    expect([status, stdout]).toEqual([2, '']);
    expect(stderr).toMatch(says);
  });

  test('by a DBA’s own login isn’t, like any other reading in SQL', async () => {
    const exports = () =>
      withClient(database.ownerUrl, async (client) => {
        const { rows } = await client.query(
          `select from audit.events where event_type = 'audit.exported'`,
        );
        return rows.length;
      });
    const before = await exports();
    const args = ['--flag', 'two', '--until', '3'];
    const { status, stdout, stderr } = await runWith(
      { AUDITOR_DATABASE_URL: database.rootUrl },
      ...args,
    );
    expect([status, stderr]).toEqual([0, '']);
    expect(linesOf(stdout)).toMatchObject([{ seq: 2 }]);
    expect(await exports()).toBe(before);
  });

  test('prints the newest first with --order desc', async () => {
    const { status, stdout } = await run('--order', 'desc', '--flag', 'one');
    expect(status).toBe(0);
    expect(linesOf(stdout).map(({ seq }) => seq)).toEqual([3, 1]);
  });

  test('writes a file that is whole or not there, for its owner only, and replaces none', async () => {
    const folder = await makeFolder();
    const out = join(folder, 'trail.csv');
    const args = ['--format', 'csv', '--until', '3', '--out', out];
    expect(await run(...args)).toEqual({ status: 0, stdout: '', stderr: '' });
    expect((await readFile(out, 'utf8')).split('\r\n')).toHaveLength(5);
    expect((await stat(out)).mode & 0o777).toBe(0o600);
    await writeFile(out, 'mine');
    const refused = await run(...args);
    expect(refused).toMatchObject({ status: 2, stdout: '' });
    expect(refused.stderr).toMatch(/^\S+ is there already: give --force to replace it\.\n$/);
    expect(await readFile(out, 'utf8')).toBe('mine');
    expect((await run(...args, '--force')).status).toBe(0);
    expect((await readFile(out, 'utf8')).split('\r\n')).toHaveLength(5);
    expect(await readdir(folder)).toEqual(['trail.csv']);
  });

  test('leaves no file and status 1 when it can’t read the trail', async () => {
    const folder = await makeFolder();
    const revoke = 'revoke select on audit.ledger from halyard_auditor';
    await withClient(database.ownerUrl, (client) => client.query(revoke));
    onTestFinished(() =>
      withClient(database.ownerUrl, async (client) => {
        await client.query('grant select on audit.ledger to halyard_auditor');
      }),
    );
    const { status, stderr } = await run('--out', join(folder, 'trail.ndjson'));
    expect(status).toBe(1);
    expect(stderr).toMatch(
      /^The export is not whole: The database refuses: permission denied .*\n$/,
    );
    expect(await readdir(folder)).toEqual([]);
    const nowhere = await run('--out', join(folder, 'none', 'trail.ndjson'));
    expect(nowhere.status).toBe(1);
    expect(nowhere.stderr).toMatch(/^The export is not whole: .* can.t be used \(ENOENT\).*\n$/);
  });

  test.each([
    [['--from', 'yesterday'], '--from must be a time with seconds and an offset'],
    [['--after', '-'], ''],
    [['--after=x'], '--after must be a whole number.'],
    [['--out', '/dev/null', '--force'], '/dev/null is no file: give --out the name of one.'],
    [['--out', 'src', '--force'], 'src is no file: give --out the name of one.'],
  ])('%j is refused with a sentence and status 2', async (args, sentence) => {
    const { status, stdout, stderr } = await run(...args);
    expect([status, stdout]).toEqual([2, '']);
    expect(stderr).toContain(sentence);
    expect(stderr).not.toContain('    at ');
  });

  test('ends quietly, but not with success, when its reader has had enough', async () => {
    await withClient(database.ownerUrl, (client) => addMany(client, 5_000));
    const halyard = startProcess(
      'bash',
      ['-c', 'node src/main.ts audit export | head -n 1; exit "${PIPESTATUS[0]}"'],
      { env: { AUTH_DATABASE_URL: database.authenticatorUrl } },
    );
    expect(await halyard.exited).toBe(1);
    expect(linesOf(halyard.stdout())).toHaveLength(1);
    expect(halyard.stderr()).toBe('');
  });
});
