import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type pg from 'pg';
import { expect, onTestFinished, test, vi } from 'vitest';
import { makePool } from '../../../src/postgres/pool.ts';
import { reconcileDue } from '../../../src/audit/reconciliation/reconcile.ts';
import { value } from '../../support/actors.ts';
import { withClient } from '../../support/database.ts';
import type { TestDatabase } from '../../support/database.ts';
import { insertFlag } from '../../support/factory.ts';
import { holdLock, WAITING } from '../../support/hold_lock.ts';
import { makeTestLog } from '../../support/log.ts';
import { problemsOf } from '../../support/reconcile.ts';
import { startTestWorker, useFreshDatabase } from '../../support/worker.ts';

const MAIN = fileURLToPath(new URL('../../../src/main.ts', import.meta.url));
const WARNING = 'audit events were missing from the trail and have been reconciled';

/** One flag whose event became a dead letter, and one whose event is lost altogether. */
async function loseTwo(client: pg.ClientBase): Promise<void> {
  await client.query('alter table audit.events rename to events_old');
  await insertFlag(client);
  await client.query('alter table audit.dead_letters rename to dead_letters_old');
  await insertFlag(client);
  await client.query('alter table audit.dead_letters_old rename to dead_letters');
  await client.query('alter table audit.events_old rename to events');
}

async function runCommand(
  database: TestDatabase,
  ...args: string[]
): Promise<{ status: number; stdout: string; stderr: string }> {
  const env = { PATH: process.env.PATH, NODE_ENV: 'test', DATABASE_URL: database.ownerUrl };
  const command = [MAIN, 'audit', 'reconcile', ...args];
  try {
    const { stdout, stderr } = await promisify(execFile)(process.execPath, command, { env });
    return { status: 0, stdout, stderr };
  } catch (error) {
    const { code, stdout, stderr } = error as { code: number; stdout: string; stderr: string };
    return { status: code, stdout, stderr };
  }
}

test('a worker that starts reconciles what is missing, delivers it, and warns once', async () => {
  const database = await useFreshDatabase();
  await withClient(database.ownerUrl, async (client) => {
    await loseTwo(client);
    const { sink, lines } = await startTestWorker(database);
    const created = () =>
      sink.taken.filter(({ message }) => message.includes('"reconciled": true'));
    await vi.waitFor(
      () => {
        expect(created()).toHaveLength(2);
        expect(lines.filter(({ msg }) => msg === WARNING)).toMatchObject([
          { level: 'warn', scope: 'full', fromLetters: 1, fromRows: 1 },
        ]);
      },
      { timeout: 10_000 },
    );
    expect(await problemsOf(client)).toEqual([]);

    await client.query(`select graphile_worker.add_job('reconcile_audit')`);
    await vi.waitFor(
      async () =>
        expect(
          await value(
            client,
            `select count(*)::int from graphile_worker.jobs where task_identifier = 'reconcile_audit'`,
          ),
        ).toBe(0),
      { timeout: 10_000 },
    );
    expect(lines.filter(({ msg }) => msg === WARNING)).toHaveLength(1);
  });
});

test('while a reconciliation lasts, the next ones leave at once and take no slot of the worker', async () => {
  const database = await useFreshDatabase();
  await withClient(database.ownerUrl, async (client) => {
    await loseTwo(client);
    const { log, lines } = makeTestLog();
    const pool = makePool(database.workerUrl, { name: 'halyard test', log });
    onTestFinished(() => pool.end());
    const stopping = new AbortController().signal;
    // Another's step, which takes long.
    const lock = await holdLock(database, 'reconciliation');
    const first = reconcileDue({ pool, log, stopping });
    await expect.poll(() => value(client, WAITING)).toBe(1);
    await Promise.all([1, 2, 3].map(() => reconcileDue({ pool, log, stopping })));
    expect(await value(client, WAITING)).toBe(1);
    await lock.release();
    await first;
    expect(lines.filter(({ msg }) => msg === WARNING)).toMatchObject([
      { scope: 'full', fromLetters: 1, fromRows: 1 },
    ]);
    // The lease was given back.
    await reconcileDue({ pool, log, stopping });
    expect(
      await value(
        client,
        `select count(*)::int from audit.reconciliations where scope = 'dead_letters'`,
      ),
    ).toBe(1);
  });
});

test('what is due: letters each time, lately updated rows after an hour, all rows after a night', async () => {
  const database = await useFreshDatabase();
  await withClient(database.ownerUrl, async (client) => {
    const due = () => value(client, 'select scope from app_private.reconciliation_due()');
    const ran = (scope: string, ago: string) =>
      client.query(
        `insert into audit.reconciliations values ($1, now() - $2::interval, now())
         on conflict (scope) do update set started_at = excluded.started_at`,
        [scope, ago],
      );
    expect(await due()).toBe('full');
    await ran('full', '1 minute');
    expect(await due()).toBe('dead_letters');
    await ran('full', '2 hours');
    expect(await due()).toBe('incremental');
    await ran('incremental', '1 minute');
    expect(await due()).toBe('dead_letters');
    await ran('full', '27 hours');
    expect(await due()).toBe('full');
  });
});

test('the command says what it did, and its status whether letters remain', async () => {
  const database = await useFreshDatabase();
  await withClient(database.ownerUrl, async (client) => {
    await loseTwo(client);
    expect(await runCommand(database)).toEqual({
      status: 0,
      stdout: 'Wrote 2 events: 1 from dead letters, 1 in place of lost ones.\n',
      stderr: '',
    });
    await client.query(
      `insert into audit.dead_letters (content, error_code, error_message) values ('{}', 'ZF012', 'no')`,
    );
    expect(await runCommand(database, '--full')).toMatchObject({
      status: 1,
      stdout:
        'Nothing was missing.\n' +
        'Dead letters that remain: 1. See "Dead letters" in docs/operations.md.\n',
    });
    expect(await runCommand(database, '--all')).toMatchObject({ status: 2, stdout: '' });
  });
});

test('the worker’s login reconciles under the present lease only, from where the database says that it is', async () => {
  const database = await useFreshDatabase();
  await withClient(database.ownerUrl, async (owner) => {
    await insertFlag(owner);
    const runs = 'select count(*)::int from audit.reconciliations';
    await withClient(database.workerUrl, async (worker) => {
      const step = 'select finished from app_private.reconcile_due($1)';
      const take = `select app_private.take_lease('reconcile', 'test', 60000)`;
      const refused = { code: '55000' };
      await expect(worker.query(step, [1])).rejects.toMatchObject(refused);
      const token = await value<string>(worker, take);
      expect(await value(worker, step, [token])).toBe(false);
      await expect(worker.query(step, [null])).rejects.toMatchObject(refused);
      await worker.query(`select app_private.release_lease('reconcile', $1)`, [token]);
      const next = await value<string>(worker, take);
      await expect(worker.query(step, [token])).rejects.toMatchObject(refused);
      expect(await value(owner, runs)).toBe(0);
      // Begun again, all steps of a full run make one.
      let steps = 1;
      while (!(await value<boolean>(worker, step, [next]))) steps++;
      expect(steps).toBeGreaterThanOrEqual(8);
      expect(await value(owner, runs)).toBe(1);
    });
  });
});

test('a run inside a snapshot that can’t see what others commit is refused', async () => {
  const database = await useFreshDatabase();
  await withClient(database.ownerUrl, async (client) => {
    await client.query('begin isolation level repeatable read');
    await expect(client.query('select app_private.reconcile_audit()')).rejects.toMatchObject({
      code: '25000',
    });
  });
});
