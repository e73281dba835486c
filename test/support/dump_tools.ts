import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, readdir } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import { chooseAccount, giveTo, spawnAs } from '../../src/postgres/embedded/os_user.ts';
import { startServer } from '../../src/postgres/embedded/server.ts';
import { localUrl } from '../../src/postgres/embedded/postmaster.ts';
import { makeDataDir, removeDataDir } from './postgres_server.ts';

const run = promisify(execFile);

/** A machine's own pg_dump and pg_restore, which the registry's PostgreSQL lacks. */
export interface DumpTools {
  readonly bin: string;
  readonly major: number;
  /** Whether the folder has the server as well. */
  readonly hasServer: boolean;
}

/** Every pg_dump that is found in PATH and where Debian's packages put it, the newest first. */
export async function findDumpTools(): Promise<DumpTools[]> {
  const packaged = '/usr/lib/postgresql';
  const versions = await readdir(packaged).catch(() => []);
  const folders = [
    ...versions.map((version) => join(packaged, version, 'bin')),
    ...(process.env.PATH ?? '').split(delimiter),
  ].filter((folder) => existsSync(join(folder, 'pg_dump')));
  const tools = await Promise.all(
    folders.map(async (bin) => {
      const { stdout } = await run(join(bin, 'pg_dump'), ['--version']);
      const hasServer = ['initdb', 'postgres'].every((name) => existsSync(join(bin, name)));
      return { bin, major: Number(/(\d+)/.exec(stdout)?.[1]), hasServer };
    }),
  );
  return tools.toSorted((a, b) => b.major - a.major || Number(b.hasServer) - Number(a.hasServer));
}

/** Runs one of the tools. @throws with what it wrote to stderr */
export async function runTool({ bin }: DumpTools, name: string, ...args: string[]): Promise<void> {
  await run(join(bin, name), args);
}

/**
 * Starts the machine's own PostgreSQL beside its pg_dump, with nothing in it.
 *
 * @returns an administrator's URL, and what ends it and removes its folder
 */
export async function startPackagedServer({ bin, major }: DumpTools) {
  const dataDir = await makeDataDir();
  const pgdata = join(dataDir, 'postgres');
  const account = await chooseAccount(null);
  await mkdir(pgdata, { mode: 0o700 });
  await giveTo(account, pgdata);
  // Trusts every login: it listens on 127.0.0.1 only, for the length of a test.
  const args = ['-D', pgdata, '-U', 'postgres', '-A', 'trust', '-E', 'UTF8', '--no-locale', '-N'];
  await run(join(bin, 'initdb'), args, { cwd: '/', ...spawnAs(account) });
  const binaries = { root: join(bin, '..'), version: `${major}.0` };
  const cluster = { pgdata, binaries, account, logFile: join(dataDir, 'postgres.log') };
  const server = await startServer(cluster, { fsync: 'off' });
  return {
    rootUrl: localUrl(server.port, 'postgres', 'none', 'postgres'),
    async stop() {
      await server.stop();
      await removeDataDir(dataDir, pgdata);
    },
  };
}
