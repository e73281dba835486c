import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, vi } from 'vitest';
import { withClient } from '../support/database.ts';
import { isAlive, listProcesses } from '../support/process_list.ts';
import { processTree, signalAll, startDaemon } from './daemon.ts';
import type { Daemon, User } from './daemon.ts';

/** A PostgreSQL server in the hands of a Patroni. */
export interface Node {
  /** Patroni's name for it. */
  readonly name: string;
  readonly port: number;
  /** The address of Patroni's REST API. */
  readonly rest: string;
  readonly dataDir: string;
  /** Starts Patroni, which starts PostgreSQL, unless it runs. */
  start(): void;
  /** SIGKILL to Patroni and all of PostgreSQL at one instant: the end of the machine. */
  kill(): Promise<void>;
  /** SIGSTOP to all of it, as a virtual machine that is suspended. */
  freeze(): void;
  /** SIGCONT to what `freeze` stopped. */
  thaw(): void;
  /**
   * From now on, until it is started again, no standby gets anything from it. They have what was committed before.
   *
   * @param url an administrator's, to this very server
   */
  cutReplication(url: string): Promise<void>;
  stop(): Promise<void>;
}

/** Describes it; it isn't started yet. */
export function makeNode(options: {
  readonly name: string;
  readonly folder: string;
  readonly configFile: string;
  readonly port: number;
  readonly restPort: number;
  readonly user: User | null;
}): Node {
  const { name, folder, port, restPort, user } = options;
  const dataDir = join(folder, 'data');
  let patroni: Daemon | null = null;
  let frozen: readonly number[] = [];

  /** The postmaster isn't Patroni's child: it shall outlive a restart of Patroni. */
  function processes(): number[] {
    const postmaster = listProcesses().filter(({ args }) =>
      args.includes(`postgres -D ${dataDir} `),
    );
    const roots = patroni?.running() === true ? [patroni.pid] : [];
    return processTree(...roots, ...postmaster.map(({ pid }) => pid));
  }

  return {
    name,
    port,
    rest: `http://127.0.0.1:${restPort}`,
    dataDir,
    start() {
      if (patroni?.running() === true) return;
      patroni = startDaemon('patroni', ['/usr/bin/patroni', options.configFile], { folder, user });
    },
    async kill() {
      const pids = processes();
      // A stopped postmaster starts no more children, and notices no child's end.
      signalAll(pids, 'SIGSTOP');
      signalAll(pids, 'SIGKILL');
      await vi.waitFor(() => expect(pids.filter(isAlive)).toEqual([]), { timeout: 10_000 });
    },
    freeze() {
      frozen = processes();
      signalAll(frozen, 'SIGSTOP');
    },
    thaw() {
      signalAll(frozen, 'SIGCONT');
      frozen = [];
    },
    async cutReplication(url) {
      await withClient(url, async (client) => {
        const { rows } = await client.query<{ lsn: string }>('select pg_current_wal_lsn() as lsn');
        await vi.waitFor(
          async () => {
            const { rowCount } = await client.query(
              'select from pg_stat_replication where flush_lsn < $1::pg_lsn',
              [rows[0]?.lsn],
            );
            expect(rowCount).toBe(0);
          },
          { timeout: 10_000, interval: 20 },
        );
        const file = join(dataDir, 'pg_hba.conf');
        // Patroni writes the file again when it starts PostgreSQL.
        await writeFile(file, `host replication all all reject\n${await readFile(file, 'utf8')}`);
        await client.query('select pg_reload_conf()');
        await vi.waitFor(
          async () => {
            const { rowCount } = await client.query(
              'select pg_terminate_backend(pid, 1000) from pg_stat_replication',
            );
            expect(rowCount).toBe(0);
          },
          { timeout: 10_000, interval: 100 },
        );
      });
    },
    async stop() {
      signalAll(frozen, 'SIGCONT');
      await patroni?.stop();
      // What is left when Patroni was killed, or didn't get PostgreSQL to stop.
      signalAll(processes(), 'SIGKILL');
    },
  };
}
