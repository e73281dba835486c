import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import type pg from 'pg';
import { expect, test } from 'vitest';
import { value } from '../../support/actors.ts';
import { COMPILE_CACHE } from '../../support/compile_cache.ts';
import { withClient, type TestDatabase } from '../../support/database.ts';
import { runTask, startTestWorker, useFreshDatabase } from '../../support/worker.ts';
import { deliverAll, writeOldMonths } from '../../support/old_trail.ts';
import { sealAll } from '../../support/sealed_trail.ts';

const MAIN = fileURLToPath(new URL('../../../src/main.ts', import.meta.url));

async function withOldMonths(work: (database: TestDatabase, client: pg.Client) => Promise<void>) {
  const database = await useFreshDatabase();
  await withClient(database.ownerUrl, async (client) => {
    await writeOldMonths(client, 2);
    await sealAll(client, 3);
    await deliverAll(client, 'stdout');
    await work(database, client);
  });
}

const oldEvents = (client: pg.Client) =>
  value<number>(
    client,
    `select count(*)::int from audit.events where occurred_at < now() - interval '6 months'`,
  );

test('the trail is kept forever unless the setting audit_retention says otherwise', async () => {
  await withOldMonths(async (database, client) => {
    await startTestWorker(database);
    await runTask(database, 'retain_audit_events');
    expect(await oldEvents(client)).toBe(6);
  });
});

test('with audit_retention old months go, and the log says which', async () => {
  await withOldMonths(async (database, client) => {
    await client.query(`select app_private.set_setting('audit_retention', '6 months')`);
    const { lines } = await startTestWorker(database);
    await runTask(database, 'retain_audit_events');
    expect(await oldEvents(client)).toBe(0);
    expect(lines.filter(({ msg }) => String(msg).includes('was purged'))).toMatchObject([
      { level: 'info', events: '3' },
      { level: 'info', events: '3' },
    ]);
  });
});

test('what can’t be purged is a warning; a reader that is in the way, a later try', async () => {
  await withOldMonths(async (database, client) => {
    await client.query(`select app_private.set_setting('audit_retention', '6 months')`);
    const { lines } = await startTestWorker(database);
    await withClient(database.ownerUrl, async (reader) => {
      await reader.query('begin; select count(*) from audit.events');
      await runTask(database, 'retain_audit_events');
      expect(lines).toContainEqual(expect.objectContaining({ level: 'info', outcome: 'busy' }));
      expect(
        await value(
          client,
          `select count(*)::int from graphile_worker.jobs where task_identifier = 'retain_audit_events'
           and run_at between now() + interval '10 minutes' and now() + interval '20 minutes'`,
        ),
      ).toBe(1);
      await reader.query('commit');
    });
    await client.query(`insert into audit.cursors (destination, last_seq) values ('gone', 0)`);
    await runTask(database, 'retain_audit_events');
    expect(lines).toContainEqual(
      expect.objectContaining({
        level: 'warn',
        reason: expect.stringContaining('gone') as unknown,
      }),
    );
    expect(await oldEvents(client)).toBe(6);
  });
});

async function command(database: TestDatabase, ...args: string[]) {
  const child = spawn(process.execPath, [MAIN, 'audit', 'retain', ...args], {
    env: {
      PATH: process.env.PATH,
      NODE_ENV: 'test',
      ...COMPILE_CACHE,
      DATABASE_URL: database.ownerUrl,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const [stdout, stderr, [status]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, 'exit') as Promise<[number]>,
  ]);
  return { stdout, stderr, status };
}

test('by the command line: first what would go, then what goes, then nothing', async () => {
  await withOldMonths(async (database, client) => {
    const dry = await command(database, '--keep', '6 months', '--dry-run');
    expect(dry).toMatchObject({ status: 0, stderr: '' });
    expect(dry.stdout).toMatch(/^(\d{4}-\d\d {2}3 events {2}would be purged\n){2}$/);
    expect(await oldEvents(client)).toBe(6);
    expect((await command(database, '--keep', '6 months')).stdout).toMatch(
      /^(\d{4}-\d\d {2}3 events {2}purged\n){2}$/,
    );
    expect(await oldEvents(client)).toBe(0);
    expect(await command(database, '--keep', '6 months')).toEqual({
      status: 0,
      stderr: '',
      stdout: 'No month of the trail is old enough.\n',
    });
  });
});

test('by the command line: status 1 when a month must stay, 2 for bad arguments', async () => {
  await withOldMonths(async (database, client) => {
    await client.query('delete from audit.cursors');
    const kept = await command(database, '--keep', '6 months');
    expect(kept).toMatchObject({ status: 1, stderr: '' });
    expect(kept.stdout).toMatch(
      /^\d{4}-\d\d {2}3 events {2}kept: Nothing of the trail was ever delivered\.\n$/,
    );
    for (const args of [
      ['--keep', '1 day'],
      ['--keep', 'long'],
    ]) {
      const { status, stderr, stdout } = await command(database, ...args);
      expect({ status, stdout }, args.join(' ')).toEqual({ status: 2, stdout: '' });
      expect(stderr).toMatch(/^.+\n$/);
    }
  });
});
