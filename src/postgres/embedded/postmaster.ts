import { readFile, readdir, readlink } from 'node:fs/promises';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import type { Logger } from '../../lib/log.ts';
import { EmbeddedPostgresError } from './error.ts';
import { ifExists, isErrno } from '../../lib/errno.ts';
import { replaceFile } from '../../lib/own_files.ts';

/** Marks our servers: it is on their command line, and shown in their titles by ps. */
export const OWNER_MARKER = 'cluster_name=halyard';

/** Each stronger shutdown, and the milliseconds that it gets. */
export const SHUTDOWNS = [
  ['SIGINT', 15_000], // fast: end the sessions, write a checkpoint
  ['SIGQUIT', 10_000], // immediate: it kills after five seconds what doesn't end by itself
  ['SIGKILL', 5_000],
] as const;

/** No system gives this process id to anybody. */
const UNUSED_PID = 2 ** 31 - 1;

/** Connection URL of a role to a database on a server of this machine. */
export function localUrl(port: number, role: string, password: string, database: string): string {
  const login = `${encodeURIComponent(role)}:${encodeURIComponent(password)}`;
  return `postgres://${login}@127.0.0.1:${port}/${encodeURIComponent(database)}`;
}

/** What postmaster.pid says (PostgreSQL's src/include/utils/pidfile.h): line 1 is the pid, line 4 the port, line 8 the status. */
export async function readPidFile(pgdata: string) {
  const text = await ifExists(readFile(join(pgdata, 'postmaster.pid'), 'utf8'));
  if (text === null) return null;
  const lines = text.split('\n');
  return { pid: Number(lines[0]), port: Number(lines[3]), ready: lines[7]?.trim() === 'ready' };
}

/**
 * Ends what a killed start left behind: a server of ours that still runs, processes of one that was killed, a pid file with
 * another process's number. Call with the lock held: then no living Halyard owns any of it.
 *
 * @throws EmbeddedPostgresError DATA_DIR_IN_USE when a server runs there that Halyard did not start; UntrustedPathError when the
 *   pid file is a link
 */
export async function cleanUp(pgdata: string, log: Logger): Promise<void> {
  const found = await readPidFile(pgdata);
  if (found) {
    const owner = await ownerOf(found.pid, pgdata);
    if (owner === 'ours') await stopOrphan(found.pid, pgdata, log);
    else if (owner === 'foreign')
      throw new EmbeddedPostgresError(
        'DATA_DIR_IN_USE',
        `A PostgreSQL server that Halyard did not start, process ${found.pid}, runs on ${pgdata}. Stop it, or give this ` +
          'Halyard a folder of its own with HALYARD_DATA_DIR.',
      );
    else await clearStalePid(pgdata);
  }
  await killOrphanedBackends(pgdata, log);
}

/** Whose server of this data folder the process belongs to, by its command line or working folder; null when to none. */
async function ownerOf(pid: number, pgdata: string): Promise<'ours' | 'foreign' | null> {
  const command = await commandLine(pid);
  if (!/^(\S*\/)?postgres[ :]/.test(command)) return null;
  const named = command.includes(` -D ${pgdata} `);
  // Null when it is gone, not for us to see, or not on Linux.
  const folder = named ? pgdata : await readlink(`/proc/${pid}/cwd`).catch(() => null);
  if (folder !== pgdata) return null;
  return command.includes(OWNER_MARKER) ? 'ours' : 'foreign';
}

/** Stops a server whose parent is dead. */
async function stopOrphan(pid: number, pgdata: string, log: Logger): Promise<void> {
  log.warn({ pid, pgdata }, 'stopping the PostgreSQL server that an earlier start left running');
  for (const [signal, ms] of SHUTDOWNS) {
    signalProcess(pid, signal);
    const deadline = Date.now() + ms;
    while (Date.now() < deadline) {
      if ((await ownerOf(pid, pgdata)) !== 'ours') return;
      await delay(20);
    }
  }
}

/**
 * PostgreSQL will not start while the pid in a stale file is anybody's. Only that number is replaced: the file also names the
 * shared memory, by which PostgreSQL makes sure that no process of the old server is left.
 */
async function clearStalePid(pgdata: string): Promise<void> {
  const file = join(pgdata, 'postmaster.pid');
  const lines = (await readFile(file, 'utf8')).split('\n');
  // The folder is the account's, which as root we must not follow to a file of ours.
  replaceFile(file, [UNUSED_PID, ...lines.slice(1)].join('\n'), 0o600);
}

/** A busy session outlives a killed postmaster, and keeps a new server from starting. Linux only: found by its working folder. */
async function killOrphanedBackends(pgdata: string, log: Logger): Promise<void> {
  for (const pid of await orphanedBackends(pgdata)) {
    log.warn({ pid, pgdata }, 'killing a process of a PostgreSQL server that was killed');
    signalProcess(pid, 'SIGKILL');
  }
  const deadline = Date.now() + 5_000;
  while ((await orphanedBackends(pgdata)).length > 0 && Date.now() < deadline) await delay(20);
}

async function orphanedBackends(pgdata: string): Promise<number[]> {
  const names = (await ifExists(readdir('/proc'))) ?? [];
  const pids = names.filter((name) => /^\d+$/.test(name)).map(Number);
  const serving = await Promise.all(pids.map((pid) => ownerOf(pid, pgdata)));
  return pids.filter((_, index) => serving[index]);
}

/** The process's arguments, parted by spaces; empty for one that is gone, or dead and not yet collected. */
async function commandLine(pid: number): Promise<string> {
  try {
    if (process.platform === 'linux')
      return (await readFile(`/proc/${pid}/cmdline`, 'utf8')).replaceAll('\0', ' ');
    const ps = await promisify(execFile)('/bin/ps', ['-ww', '-o', 'args=', '-p', String(pid)]);
    return ps.stdout;
  } catch (error) {
    if (error instanceof Error && 'code' in error) return ''; // no such process
    throw error;
  }
}

function signalProcess(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if (!isErrno(error) || error.code !== 'ESRCH') throw error;
  }
}
