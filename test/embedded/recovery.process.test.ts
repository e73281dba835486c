import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, readdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Client } from 'pg';
import { describe, expect, onTestFinished, test } from 'vitest';
import { chooseAccount, spawnAs } from '../../src/postgres/embedded/os_user.ts';
import { findBinaries, reachableBinaries } from '../../src/postgres/embedded/binaries.ts';
import { freePort } from '../../src/postgres/embedded/server.ts';
import {
  kill9,
  makeTestFolder,
  mark,
  marked,
  postmasterPid,
  query,
  readyParent,
  spawnParent,
  startServerIn,
  until,
  useSharedFolder,
} from '../support/embedded.ts';
import { isAlive, listProcesses } from '../support/process_list.ts';

const shared = useSharedFolder();

describe('the end', () => {
  test('is the same for every call of stop, with sessions open, and frees the folder', async () => {
    const server = await shared.start();
    const client = new Client({ connectionString: server.superuserUrl });
    client.on('error', () => undefined);
    await client.connect();
    await Promise.all([server.stop(), server.stop()]);
    await server.stop();
    expect(await server.exited).toBe(0);
    await expect(query(server.superuserUrl, 'select 1')).rejects.toMatchObject({
      code: 'ECONNREFUSED',
    });
    await (await shared.start()).stop();
  });

  test('of a server that dies by itself is told', async () => {
    const server = await shared.start();
    process.kill(await postmasterPid(server.dataDir), 'SIGKILL');
    expect(await server.exited).toBeNull();
    await server.stop();
    const again = await shared.start();
    expect(await query(again.superuserUrl, 'select 1 as n')).toEqual([{ n: 1 }]);
    process.kill(await postmasterPid(again.dataDir), 'SIGQUIT');
    expect(await again.exited).toBe(0);
  });

  test('of the parent by kill -9 is the end of the server', async () => {
    const parent = spawnParent(shared.dataDir);
    const { pgdata } = await readyParent(parent);
    const pid = await postmasterPid(pgdata);
    await kill9(parent.process);
    await until(() => !isAlive(pid));
    await until(() => !listProcesses().some((p) => p.pgid === pid && !p.state.startsWith('Z')));
    expect(await readFile(join(shared.dataDir, 'postgres.log'), 'utf8')).toMatch(
      /received fast shutdown request/,
    );
  });

  test('is not brought by Ctrl-C, so that the parent can drain', async () => {
    const parent = spawnParent(shared.dataDir);
    const { superuserUrl, pgdata } = await readyParent(parent);
    const client = new Client({ connectionString: superuserUrl });
    await client.connect();
    process.kill(-parent.pid, 'SIGINT'); // what a terminal does: the whole group
    expect((await parent.lines.next()).value).toBe('interrupted');
    // The server handles its signals before it takes up a new session.
    expect(await query(superuserUrl, 'select 1 as n')).toEqual([{ n: 1 }]);
    expect((await client.query('select 2 as n')).rows).toEqual([{ n: 2 }]);
    await client.end();
    const pid = await postmasterPid(pgdata);
    expect(listProcesses().find((p) => p.pid === pid)?.pgid).not.toBe(parent.pid);
  });
});

describe('after a kill -9', () => {
  test('a server that still runs is stopped and its data served', async () => {
    const parent = spawnParent(shared.dataDir);
    const { superuserUrl, pgdata } = await readyParent(parent);
    await mark(superuserUrl);
    const pid = await postmasterPid(pgdata);
    const watchers = listProcesses().filter(
      (p) => p.pgid === pid && p.args.includes('halyard-guard'),
    );
    expect(watchers).toHaveLength(1);
    for (const watcher of watchers) process.kill(watcher.pid, 'SIGKILL');
    await kill9(parent.process);
    expect(isAlive(pid)).toBe(true);

    const server = await shared.start();
    expect(isAlive(pid)).toBe(false);
    expect(await marked(server.superuserUrl)).toBe(true);
  });

  test('a pid file whose number is now somebody else’s does no harm to either', async () => {
    const first = await shared.start();
    const file = join(first.dataDir, 'postmaster.pid');
    process.kill(await postmasterPid(first.dataDir), 'SIGKILL');
    await first.exited;
    const stale = (await readFile(file, 'utf8')).split('\n');
    // As the server's user: PostgreSQL itself only fears processes that it could signal.
    const account = await chooseAccount(await stat(first.dataDir));
    const stranger = spawn('/bin/sleep', ['600'], {
      ...spawnAs(account),
      stdio: 'ignore',
      cwd: '/',
    });
    onTestFinished(() => kill9(stranger));
    await once(stranger, 'spawn');
    await writeFile(file, [stranger.pid, ...stale.slice(1)].join('\n'));

    const server = await shared.start();
    expect(await query(server.superuserUrl, 'select 1 as n')).toEqual([{ n: 1 }]);
    expect(isAlive(stranger.pid ?? -1)).toBe(true);
  });

  // How to find such a process is known for Linux only.
  test.skipIf(process.platform !== 'linux')('a session of a killed server is ended', async () => {
    const first = await shared.start();
    const client = new Client({ connectionString: first.superuserUrl });
    client.on('error', () => undefined);
    await client.connect();
    const [session] = (await client.query<{ pid: number }>('select pg_backend_pid() as pid')).rows;
    const pid = session?.pid ?? -1;
    // A loop without an interrupt check: it would go on for ever without its postmaster.
    const endless = client.query(`select count(*) from generate_series(1, 1000000000000)`);
    const over = expect(endless).rejects.toThrow();
    await until(() => listProcesses().some((p) => p.pid === pid && p.args.includes('SELECT')));
    process.kill(await postmasterPid(first.dataDir), 'SIGKILL');
    await first.exited;
    expect(isAlive(pid)).toBe(true);

    const server = await shared.start();
    expect(isAlive(pid)).toBe(false);
    expect(await query(server.superuserUrl, 'select 1 as n')).toEqual([{ n: 1 }]);
    await over;
  });

  test('an initdb that was cut short is done anew', async () => {
    const folder = await makeTestFolder();
    const parent = spawnParent(folder);
    const partials = async () =>
      (await readdir(folder)).filter((name) => /^postgres\.(partial|initdb)/.test(name));
    await until(async () => {
      const partial = (await partials()).find((name) => name.includes('partial'));
      return (
        partial !== undefined && (await readdir(join(folder, partial)).catch(() => [])).length > 5
      );
    });
    await kill9(parent.process);
    expect(await readdir(folder)).not.toContain('postgres');

    const server = await startServerIn(folder);
    expect(await query(server.superuserUrl, 'select 1 as n')).toEqual([{ n: 1 }]);
    expect(await partials()).toEqual([]);
  });
});

describe('two at a time', () => {
  test('on one folder: the second fails at once, names the first, and leaves it alone', async () => {
    const parent = spawnParent(shared.dataDir);
    const { superuserUrl } = await readyParent(parent);
    await expect(shared.start()).rejects.toMatchObject({
      code: 'DATA_DIR_IN_USE',
      message: expect.stringMatching(
        new RegExp(`process ${parent.pid}\\..*HALYARD_DATA_DIR`),
      ) as string,
    });
    expect(await query(superuserUrl, 'select 1 as n')).toEqual([{ n: 1 }]);
  });

  test('on one folder, in one process and at the same moment: exactly one wins', async () => {
    const results = await Promise.allSettled([shared.start(), shared.start(), shared.start()]);
    const failures = results.filter((result) => result.status === 'rejected');
    expect(failures.map(({ reason }) => (reason as { code: string }).code)).toEqual([
      'DATA_DIR_IN_USE',
      'DATA_DIR_IN_USE',
    ]);
  });

  test('a server that somebody started by hand is left alone', async () => {
    const first = await shared.start();
    await first.stop();
    const account = await chooseAccount(await stat(first.dataDir));
    const binaries = await reachableBinaries(await findBinaries(), account);
    const options = ['-p', String(await freePort()), '-c', 'unix_socket_directories='];
    const program = join(binaries.root, 'bin', 'postgres');
    const byHand = spawn(program, ['-D', first.dataDir, ...options], {
      ...spawnAs(account),
      cwd: '/',
      stdio: 'ignore',
    });
    onTestFinished(() => kill9(byHand));
    const ready = async () =>
      (await readFile(join(first.dataDir, 'postmaster.pid'), 'utf8').catch(() => '')).includes(
        'ready',
      );
    await until(ready);
    await expect(shared.start()).rejects.toMatchObject({ code: 'DATA_DIR_IN_USE' });
    expect(await ready()).toBe(true);
    expect(isAlive(byHand.pid ?? -1)).toBe(true);
  });

  test('on two folders they do not disturb each other', async () => {
    const other = await makeTestFolder();
    const [one, two] = await Promise.all([shared.start(), startServerIn(other)]);
    await query(one.superuserUrl, 'create table only_here ()');
    expect(await query(two.superuserUrl, `select to_regclass('only_here') as t`)).toEqual([
      { t: null },
    ]);
    await one.stop();
    expect(await query(two.superuserUrl, 'select 1 as n')).toEqual([{ n: 1 }]);
  });
});
