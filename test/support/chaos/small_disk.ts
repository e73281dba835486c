import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { onTestFinished } from 'vitest';
import { withDatabase } from '../../../src/postgres/setup.ts';
import { withClient } from '../database.ts';
import type { TestDatabase } from '../database.ts';
import { loginsTo, makeMigrated } from '../migrated.ts';
import { makeDataDir, removeDataDir } from '../postgres_server.ts';
import { startTcpProxy } from '../tcp_proxy.ts';

export type SmallDiskCommand = 'fill' | 'free' | 'stop';

/** What the process says: the server has been started, or a command is done. */
export type SmallDiskReport =
  { readonly port: number; readonly superuserUrl: string } | { readonly done: SmallDiskCommand };

/** A PostgreSQL server whose cluster and log lie on a small disk of their own. */
export interface SmallDisk {
  /** The only database; its addresses stay the same when the server is started again. */
  readonly database: TestDatabase;
  /** How often the server was started. */
  starts(): number;
  /** Fills the disk to the last byte, and keeps it full. */
  fill(): Promise<void>;
  free(): Promise<void>;
}

const SCRIPT = fileURLToPath(new URL('./small_disk_server.ts', import.meta.url));
const NAME = 'halyard';
const SIZE = 256 * 2 ** 20;

/** Why this machine lets no test mount a disk, as a sentence; null when it does. */
export function smallDiskObstacle(): string | null {
  if (process.getuid?.() !== 0) return 'Only root may mount a disk.';
  try {
    execFileSync('unshare', ['--mount', 'mount', '-t', 'tmpfs', 'tmpfs', '/mnt'], {
      stdio: 'pipe',
    });
    return null;
  } catch (error) {
    return `No disk can be mounted in a mount namespace: ${String(error)}`;
  }
}

/** Starts it with a migrated database; server and disk are gone after the test. */
export async function startSmallDisk(): Promise<SmallDisk> {
  const folder = await makeDataDir();
  const child = spawn('unshare', ['--mount', process.execPath, SCRIPT, folder, String(SIZE)], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
  const exited = once(child, 'exit');
  const target = { host: '127.0.0.1', port: 0 };
  const address = await startTcpProxy(target);
  let starts = 0;
  child.on('message', (report: SmallDiskReport) => {
    if ('done' in report) return;
    target.port = report.port;
    starts++;
  });

  async function ask(command: SmallDiskCommand): Promise<void> {
    const done = Promise.withResolvers<undefined>();
    const hear = (report: SmallDiskReport) => {
      if ('done' in report && report.done === command) done.resolve(undefined);
    };
    child.on('message', hear);
    child.send(command);
    await Promise.race([done.promise, exited]);
    child.off('message', hear);
  }

  onTestFinished(async () => {
    if (child.connected) await ask('stop');
    await exited;
    await address[Symbol.asyncDispose]();
    await removeDataDir(folder, `${folder}/postgres`);
  });
  const [{ superuserUrl }] = (await Promise.race([
    once(child, 'message'),
    exited.then(() => Promise.reject(new Error('The server on the small disk did not start.'))),
  ])) as [{ superuserUrl: string }];

  const root = new URL(withDatabase(superuserUrl, NAME));
  root.port = String(address.port);
  const logins = loginsTo(root.href, 'chaos', NAME);
  await makeMigrated(superuserUrl, logins);
  await recycleLog(root.href);
  return {
    database: { name: NAME, rootUrl: root.href, ...logins, drop: () => Promise.resolve() },
    starts: () => starts,
    fill: () => ask('fill'),
    free: () => ask('free'),
  };
}

/** Leaves segments of PostgreSQL's log to be written again, as a server has that has run for a while. */
async function recycleLog(rootUrl: string): Promise<void> {
  await withClient(rootUrl, async (client) => {
    for (let i = 0; i < 4; i++) {
      await client.query('select pg_switch_wal()');
      await client.query('checkpoint');
    }
  });
}
