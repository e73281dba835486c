import { copyFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pino } from 'pino';
import { expect, onTestFinished } from 'vitest';
import { startEmbeddedPostgres } from '../../../src/postgres/embedded/postgres.ts';
import type { EmbeddedPostgres } from '../../../src/postgres/embedded/postgres.ts';
import { withDatabase } from '../../../src/postgres/setup.ts';
import { withClient } from '../database.ts';
import type { TestDatabase } from '../database.ts';
import { postmasterPid } from '../embedded.ts';
import { loginsTo, makeMigrated } from '../migrated.ts';
import { makeDataDir, removeDataDir } from '../postgres_server.ts';
import { listProcesses } from '../process_list.ts';
import { startTcpProxy } from '../tcp_proxy.ts';
import { takeBaseBackup } from './base_backup.ts';

/** A primary and its streaming standby, PostgreSQL's own, each with data of its own. */
export interface ReplicatedServer {
  /** The only database. Its addresses are the present primary's, so they are others after a promotion. */
  readonly database: TestDatabase;
  /** The present primary's and standby's. */
  readonly primaryPort: () => number;
  readonly standbyPort: () => number;
  /** Whether a commit waits until its standby has it on disk; true at first. */
  setSynchronous(on: boolean): Promise<void>;
  /** From now on nothing reaches the standby. */
  cutOff(): void;
  /** The end of the primary's machine: SIGKILL to all its processes. Its data are never served again. */
  killPrimary(): Promise<void>;
  /** Makes the standby the primary, and does nothing to the old one. Resolves when it takes writes; then no commit waits for a standby. */
  promote(): Promise<void>;
  /** Throws away what was the primary before, begins a standby by a base backup, and has commits wait for it from then on. */
  addStandby(): Promise<void>;
}

interface Node {
  readonly dataDir: string;
  readonly server: EmbeddedPostgres;
}

/** Other runs of the tests on this machine have theirs. */
const NAME = `failover_${process.pid}`;
const PASSWORD = 'chaos';
const STANDBY = 'standby';
/**
 * Beside PostgreSQL's own defaults (wal_level replica, hot_standby on): log for a base backup, room for four of everything. A
 * standby begins by syncing each file of its backup, which takes most of a minute while others write.
 */
const SETTINGS = {
  wal_keep_size: '1GB',
  max_connections: '200',
  ...(process.platform === 'linux' ? { recovery_init_sync_method: 'syncfs' } : {}),
};

/** Starts both with a migrated database, durable, and synchronous; they are stopped and removed after the test. */
export async function startReplicatedServer(): Promise<ReplicatedServer> {
  const nodes: Node[] = [];
  onTestFinished(() => Promise.all(nodes.map(removeNode)).then(() => undefined));
  const start = async (dataDir: string, settings: Record<string, string> = {}) => {
    const log = pino({ level: 'silent' });
    const all = { ...SETTINGS, ...settings };
    const node = { dataDir, server: await startEmbeddedPostgres({ dataDir, log, settings: all }) };
    nodes.push(node);
    return node;
  };
  let primary = await start(await makeDataDir());
  let standby: Node | null = null;
  const replication = { host: '127.0.0.1', port: primary.server.port };
  const wire = await startTcpProxy(replication);
  onTestFinished(() => wire[Symbol.asyncDispose]());
  const currentStandby = () => {
    if (standby === null) throw new Error('There is no standby now: add one.');
    return standby;
  };
  const logins = () => loginsTo(primary.server.superuserUrl, PASSWORD, NAME);
  const asRoot = (...statements: string[]) => run(primary.server.superuserUrl, ...statements);

  async function setSynchronous(on: boolean): Promise<void> {
    await asRoot(
      `alter system set synchronous_standby_names = '${on ? STANDBY : ''}'`,
      'select pg_reload_conf()',
    );
    await expect
      .poll(() => replicationState(primary), { timeout: 20_000, interval: 20 })
      .toBe(on ? 'streaming sync' : 'streaming async');
  }

  async function addStandby(): Promise<void> {
    const old = nodes.filter((node) => node !== primary);
    await Promise.all(old.map(removeNode));
    nodes.splice(0, nodes.length, primary);
    replication.port = primary.server.port;
    wire.accept();
    const dataDir = await makeDataDir();
    await takeBaseBackup(
      primary.server.superuserUrl,
      primary.server.dataDir,
      join(dataDir, 'postgres'),
    );
    await copyFile(join(primary.dataDir, 'postgres.password'), join(dataDir, 'postgres.password'));
    standby = await start(dataDir, {
      primary_conninfo: `host=127.0.0.1 port=${wire.port} user=replicator password=${PASSWORD} application_name=${STANDBY}`,
    });
    await setSynchronous(true);
    await caughtUp(primary);
  }

  await makeMigrated(primary.server.superuserUrl, logins());
  await asRoot(`create role replicator login replication password '${PASSWORD}'`);
  await addStandby();
  return {
    database: {
      name: NAME,
      get rootUrl() {
        return withDatabase(primary.server.superuserUrl, NAME);
      },
      get ownerUrl() {
        return logins().ownerUrl;
      },
      get authenticatorUrl() {
        return logins().authenticatorUrl;
      },
      get workerUrl() {
        return logins().workerUrl;
      },
      drop: () => Promise.resolve(),
    },
    primaryPort: () => primary.server.port,
    standbyPort: () => currentStandby().server.port,
    setSynchronous,
    cutOff: () => wire.refuse(),
    killPrimary: () => killAll(primary.server),
    async promote() {
      await run(currentStandby().server.superuserUrl, 'select pg_promote()');
      primary = currentStandby();
      standby = null;
    },
    addStandby,
  };
}

/** Like `streaming sync`. Streaming means that the standby has caught up. */
async function replicationState({ server }: Node): Promise<string> {
  const [row] = await run<{ state: string }>(
    server.superuserUrl,
    `select state || ' ' || sync_state as state from pg_stat_replication`,
  );
  return row?.state ?? 'none';
}

/** Until the standby has what was committed before anybody had to wait for it. */
async function caughtUp({ server }: Node): Promise<void> {
  const [now] = await run<{ lsn: string }>(
    server.superuserUrl,
    'select pg_current_wal_insert_lsn()::text as lsn',
  );
  const behind = `select count(*)::int as n from pg_stat_replication where flush_lsn < '${now?.lsn ?? ''}'`;
  await expect
    .poll(() => run<{ n: number }>(server.superuserUrl, behind), { timeout: 20_000, interval: 20 })
    .toEqual([{ n: 0 }]);
}

/** All at one instant, as far as that goes: a stopped postmaster starts no more, and notices nobody's end. */
async function killAll(server: EmbeddedPostgres): Promise<void> {
  const pid = await postmasterPid(server.dataDir);
  process.kill(pid, 'SIGSTOP');
  const children = listProcesses().filter(({ ppid }) => ppid === pid);
  for (const child of children) process.kill(child.pid, 'SIGKILL');
  process.kill(pid, 'SIGKILL');
  await server.exited;
}

async function removeNode({ dataDir, server }: Node): Promise<void> {
  await server.stop();
  await removeDataDir(dataDir, server.dataDir);
}

async function run<T = unknown>(url: string, ...statements: string[]): Promise<T[]> {
  return withClient(url, async (client) => {
    let rows: T[] = [];
    for (const statement of statements) rows = (await client.query(statement)).rows as T[];
    return rows;
  });
}
