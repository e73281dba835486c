import { once } from 'node:events';
import { readFile, readdir, rename, stat, writeFile } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { chooseAccount } from '../../src/postgres/embedded/os_user.ts';
import { findBinaries, reachableBinaries } from '../../src/postgres/embedded/binaries.ts';
import { freePort, startServer } from '../../src/postgres/embedded/server.ts';
import {
  makeTestFolder,
  mark,
  marked,
  postmasterPid,
  query,
  settings,
  startServerIn,
  useSharedFolder,
} from '../support/embedded.ts';
import { listProcesses } from '../support/process_list.ts';

const shared = useSharedFolder();

const setting = async (url: string, name: string) =>
  (await query<Record<string, string>>(url, `show ${name}`))[0]?.[name];

describe('a started server', () => {
  test('listens on 127.0.0.1 only, asks for a password, and is the same everywhere', async () => {
    const server = await shared.start();
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
    const server = await startServerIn(folder);
    const pid = await postmasterPid(server.dataDir);
    const running = listProcesses().find((p) => p.pid === pid);
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
    const first = await shared.start();
    await mark(first.superuserUrl);
    await first.stop();
    const second = await shared.start({});
    expect(await marked(second.superuserUrl)).toBe(true);
    expect(new URL(second.superuserUrl).password).toBe(new URL(first.superuserUrl).password);
    for (const name of ['fsync', 'synchronous_commit', 'full_page_writes']) {
      expect(await setting(second.superuserUrl, name)).toBe('on');
    }
  });

  test('writes urls that survive odd names', async () => {
    const server = await shared.start();
    await query(server.superuserUrl, `create role "o'dd /@:?" login password 'p@:/?#%'`);
    await query(server.superuserUrl, 'create database "d b%"');
    const url = server.url("o'dd /@:?", 'p@:/?#%', 'd b%');
    const rows = await query(url, 'select current_user as u, current_database() as d');
    expect(rows).toEqual([{ u: "o'dd /@:?", d: 'd b%' }]);
  });

  test('takes another port when its own is taken at the last moment', async () => {
    const first = await shared.start();
    await first.stop();
    const account = await chooseAccount(await stat(first.dataDir));
    const binaries = await reachableBinaries(await findBinaries(), account);
    const cluster = {
      pgdata: first.dataDir,
      binaries,
      account,
      logFile: join(shared.dataDir, 'postgres.log'),
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
      const server = await shared.start();
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

describe('what can go wrong', () => {
  test('a failed start shows the end of the log, which each start begins anew', async () => {
    const logFile = join(shared.dataDir, 'postgres.log');
    await expect(shared.start({ ...settings, work_mem: 'plenty' })).rejects.toMatchObject({
      code: 'START_FAILED',
      message: expect.stringContaining('"work_mem"') as string,
    });
    await (await shared.start()).stop();
    expect(await readFile(logFile, 'utf8')).not.toContain('work_mem');
    expect(await readFile(`${logFile}.1`, 'utf8')).toContain('work_mem');
    await (await shared.start()).stop();
    expect(
      (await readdir(shared.dataDir)).filter((name) => name.startsWith('postgres.log')),
    ).toHaveLength(2);
  });

  test('data of another major version', async () => {
    const file = join(shared.dataDir, 'postgres', 'PG_VERSION');
    const version = await readFile(file, 'utf8');
    await writeFile(file, '14\n');
    onTestFinished(() => writeFile(file, version));
    await expect(shared.start()).rejects.toMatchObject({
      code: 'OTHER_VERSION',
      message: expect.stringMatching(/version 14.*version \d\d/) as string,
    });
  });

  test('a lost password', async () => {
    const file = join(shared.dataDir, 'postgres.password');
    await rename(file, `${file}.lost`);
    onTestFinished(() => rename(`${file}.lost`, file));
    await expect(shared.start()).rejects.toMatchObject({ code: 'PASSWORD_MISSING' });
  });

  test('a data folder that cannot be made', async () => {
    await writeFile(join(shared.dataDir, 'file'), '');
    await expect(startServerIn(join(shared.dataDir, 'file', 'sub'))).rejects.toMatchObject({
      code: 'DATA_DIR_UNUSABLE',
    });
  });
});
