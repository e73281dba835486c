import { expect, test } from 'vitest';
import { value } from '../support/actors.ts';
import { useDatabase, withClient } from '../support/database.ts';
import { startProcess } from '../support/processes.ts';

const database = useDatabase();

async function settings(args: string[], url: string | null = database.ownerUrl) {
  const running = startProcess('node', ['src/main.ts', 'settings', ...args], {
    env: { NODE_ENV: 'production', ...(url === null ? {} : { DATABASE_URL: url }) },
  });
  const code = await running.exited;
  return { code, out: running.stdout(), err: running.stderr() };
}

test('one is set, listed, and told in the trail as this command’s', async () => {
  const set = await settings(['set', 'audit_retention', '24 months']);
  expect(set).toEqual({ code: 0, out: 'audit_retention is set; revision 1.\n', err: '' });
  const { out, code } = await settings(['list']);
  expect(code).toBe(0);
  expect(out.split('\n').map((line) => line.split(/ {2,}/))).toEqual([
    ['name', 'value', 'default', 'revision'],
    ['audit_mode', 'lax', 'lax', '0'],
    ['audit_retention', '24 months', '""', '1'],
    ['pending_per_flag', '1000', '1000', '0'],
    ['retry_base', '30 seconds', '30 seconds', '0'],
    ['schedule_retention', '""', '""', '0'],
    [''],
  ]);
  await withClient(database.ownerUrl, async (client) => {
    expect(
      await value(
        client,
        `select application_name from audit.events where event_type = 'setting.changed'`,
      ),
    ).toBe('halyard settings');
  });
});

test.for<[string[], string]>([
  [
    ['set', 'retention', '1 year'],
    'There is no setting retention: the settings are audit_mode, audit_retention, pending_per_flag, retry_base, schedule_retention.\n',
  ],
  [['set', 'audit_mode', 'loose'], 'audit_mode must be lax or strict.\n'],
])('%j is refused with the database’s sentence and status 2', async ([args, sentence]) => {
  expect(await settings(args)).toEqual({ code: 2, out: '', err: sentence });
});

test('without the owner’s rights, its address or a database it fails with status 1', async () => {
  const worker = await settings(['set', 'audit_mode', 'lax'], database.workerUrl);
  expect(worker).toMatchObject({ code: 1, out: '' });
  expect(worker.err).toMatch(
    /^The database refuses: permission denied .*\. Set DATABASE_URL to .*\n$/,
  );
  const nowhere = await settings(['list'], null);
  expect(nowhere).toMatchObject({ code: 1, out: '' });
  expect(nowhere.err).toContain('Set DATABASE_URL');
  const absent = await settings(['list'], 'postgres://x@127.0.0.1:1/x');
  expect(absent).toMatchObject({ code: 1, out: '' });
  expect(absent.err).toContain('ECONNREFUSED');
});
