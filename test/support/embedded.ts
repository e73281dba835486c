import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { Client } from 'pg';
import { pino } from 'pino';
import { afterAll, beforeAll, expect, onTestFinished } from 'vitest';
import type { EmbeddedPostgres } from '../../src/postgres/embedded/postgres.ts';
import { startEmbeddedPostgres } from '../../src/postgres/embedded/postgres.ts';
import { makeDataDir, removeDataDir } from './postgres_server.ts';
import { listProcesses } from './process_list.ts';

type Settings = Readonly<Record<string, string>>;

const log = pino({ level: 'silent' });
const moduleUrl = new URL('../../src/postgres/embedded/postgres.ts', import.meta.url).href;

/** Server settings for tests: nothing here outlives the run, so nothing waits for a disk. */
export const settings: Settings = { fsync: 'off' };
/** The script that `spawnParent` runs. */
export const parentScript = fileURLToPath(new URL('./embedded_parent.ts', import.meta.url));

/** A data folder with a cluster in it, on which a test starts servers. */
export interface SharedFolder {
  readonly dataDir: string;
  /** As `startServerIn` does. */
  start(options?: Settings): Promise<EmbeddedPostgres>;
}

/** One data folder for all tests of a file that leave it as they found it: initdb is what takes the time. */
export function useSharedFolder(): SharedFolder {
  let folder: string | undefined;
  const current = () => {
    if (folder === undefined) throw new Error('The shared folder exists only inside tests.');
    return folder;
  };
  beforeAll(async () => {
    folder = await makeDataDir();
    await (await startEmbeddedPostgres({ dataDir: folder, log, settings })).stop();
  });
  afterAll(async () => {
    if (folder !== undefined) await removeDataDir(folder, join(folder, 'postgres'));
  });
  return {
    get dataDir() {
      return current();
    },
    start: (options) => startServerIn(current(), options),
  };
}

/** An empty data folder, removed after the test. */
export async function makeTestFolder(): Promise<string> {
  const folder = await makeDataDir();
  onTestFinished(() => removeDataDir(folder, join(folder, 'postgres')));
  return folder;
}

/** Starts a server, which is stopped after the test. */
export async function startServerIn(
  folder: string,
  options: Settings = settings,
): Promise<EmbeddedPostgres> {
  const server = await startEmbeddedPostgres({ dataDir: folder, log, settings: options });
  onTestFinished(() => server.stop());
  return server;
}

/** The rows of one statement, on a connection of its own. */
export async function query<T>(url: string, sql: string): Promise<T[]> {
  const client = new Client({ connectionString: url });
  client.on('error', () => undefined);
  await client.connect();
  try {
    return (await client.query(sql)).rows as T[];
  } finally {
    await client.end();
  }
}

let marks = 0;

/** Leaves a mark in the data, to be found again by `marked`. */
export async function mark(url: string): Promise<void> {
  await query(url, 'create table if not exists marks (n int)');
  await query(url, `truncate marks`);
  await query(url, `insert into marks values (${++marks})`);
}

/** Whether the data bear the last mark that was left. */
export async function marked(url: string): Promise<boolean> {
  return (await query<{ n: number }>(url, 'select n from marks'))[0]?.n === marks;
}

/** The process that postmaster.pid names. */
export async function postmasterPid(pgdata: string): Promise<number> {
  return Number((await readFile(join(pgdata, 'postmaster.pid'), 'utf8')).split('\n')[0]);
}

/** Waits until the condition holds; fails after 20 seconds. */
export async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  await expect.poll(condition, { timeout: 20_000, interval: 20 }).toBe(true);
}

/** A process that starts a server and then waits to be killed. */
export interface Parent {
  readonly process: ChildProcess;
  readonly pid: number;
  readonly lines: AsyncIterator<string>;
}

/**
 * Starts a process that starts a server, in a process group of its own as a terminal would. After the test it is
 * killed, and its server's end waited for.
 */
export function spawnParent(
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
  onTestFinished(async () => {
    await kill9(child);
    const serves = new RegExp(`^\\S*/postgres -D ${folder}/`);
    await until(() => !listProcesses().some(({ args }) => serves.test(args)));
  });
  return { process: child, pid, lines: createInterface(child.stdout)[Symbol.asyncIterator]() };
}

/** Waits until the parent's server is ready; gives what it tells about it. */
export async function readyParent(
  parent: Parent,
): Promise<{ port: number; superuserUrl: string; pgdata: string }> {
  const line: unknown = (await parent.lines.next()).value;
  return JSON.parse(String(line)) as { port: number; superuserUrl: string; pgdata: string };
}

/** Kills the process unless it is over, and waits for its end. */
export async function kill9(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill('SIGKILL');
  await once(child, 'exit');
}
