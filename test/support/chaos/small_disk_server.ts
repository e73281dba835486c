/**
 * A process that mounts a small disk in its mount namespace, runs a PostgreSQL server on it, and fills and frees the disk as its
 * parent says by messages. A server that ends, because it can't recover on a full disk, is started again, as systemd would.
 *
 * Arguments: the folder to mount on, the disk's size in bytes. Run it by `unshare --mount`.
 */
import { execFileSync } from 'node:child_process';
import { closeSync, openSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import { pino } from 'pino';
import { isErrno } from '../../../src/lib/errno.ts';
import { startEmbeddedPostgres } from '../../../src/postgres/embedded/postgres.ts';
import { readPidFile } from '../../../src/postgres/embedded/postmaster.ts';
import type { SmallDiskCommand, SmallDiskReport } from './small_disk.ts';

const [folder, size] = process.argv.slice(2);
if (folder === undefined || size === undefined) throw new Error('Two arguments are wanted.');
const filler = join(folder, 'filler');

execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${size},mode=711`, 'tmpfs', folder]);

const log = pino({ level: 'silent' });
/** A few segments are recycled, not made: a server that has none left to write to panics. */
const settings = { min_wal_size: '64MB', max_wal_size: '96MB', max_connections: '60' };
const start = () => startEmbeddedPostgres({ dataDir: folder, log, settings });

const report = (message: SmallDiskReport) => process.send?.(message);
let stopping = false;
let filling: NodeJS.Timeout | undefined;
let server = await start();

/** What PostgreSQL gives back meanwhile, as an old segment of its log, is filled again. */
function fill(): void {
  const file = openSync(filler, 'a');
  try {
    for (const bytes of [65_536, 4_096, 1]) fillBy(file, Buffer.alloc(bytes));
  } finally {
    closeSync(file);
  }
}

function fillBy(file: number, block: Buffer): void {
  try {
    while (writeSync(file, block) === block.length);
  } catch (error) {
    if (!isErrno(error) || error.code !== 'ENOSPC') throw error;
  }
}

async function supervise(): Promise<void> {
  for (;;) {
    report({ port: server.port, superuserUrl: server.superuserUrl });
    await server.exited;
    const restarted = await restart();
    if (restarted === null) return;
    server = restarted;
  }
}

async function restart() {
  while (!stopping) {
    try {
      return await start();
    } catch {
      await delay(200);
    }
  }
  return null;
}

/** Whether the server answers soon. One that ran into the full disk while it recovered may stay in recovery (seen once in 40 runs). */
async function isBack(): Promise<boolean> {
  const deadline = Date.now() + 10_000;
  while (Date.now() < deadline) {
    const client = new pg.Client({ connectionString: server.superuserUrl });
    client.on('error', () => undefined);
    try {
      await client.connect();
      await client.end();
      return true;
    } catch {
      await delay(100);
    }
  }
  return false;
}

/** As an administrator's `pg_ctl stop --mode immediate`. It is started again. */
async function crash(): Promise<void> {
  const found = await readPidFile(server.dataDir);
  if (found !== null) process.kill(found.pid, 'SIGQUIT');
}

const COMMANDS: Record<SmallDiskCommand, () => void | Promise<void>> = {
  fill() {
    fill();
    filling = setInterval(fill, 20);
  },
  async free() {
    clearInterval(filling);
    rmSync(filler);
    if (!(await isBack())) await crash();
  },
  async stop() {
    stopping = true;
    clearInterval(filling);
    rmSync(filler, { force: true });
    await server.stop();
  },
};

process.on('message', (command: SmallDiskCommand) => {
  void (async () => {
    await COMMANDS[command]();
    report({ done: command });
    if (command === 'stop') process.disconnect();
  })();
});
process.on('disconnect', () => {
  if (!stopping) void COMMANDS.stop();
});
await supervise();
