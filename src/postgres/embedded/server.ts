import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Cluster } from './cluster.ts';
import { EmbeddedPostgresError } from './error.ts';
import { isErrno } from '../../lib/errno.ts';
import { settlesWithin } from '../../lib/wait.ts';
import { spawnWatched, whenOver } from './watchdog.ts';
import { OWNER_MARKER, readPidFile, SHUTDOWNS } from './postmaster.ts';
import { tail } from './server_log.ts';

/** Recovery after a crash counts as starting, and may have a gigabyte of log to replay. */
const START_DEADLINE_MS = 180_000;
const START_POLL_MS = 10;
const PORT_ATTEMPTS = 5;

/**
 * Starts PostgreSQL on a free port of 127.0.0.1, or another one when that is taken meanwhile, and waits until it accepts
 * connections.
 *
 * @param settings more server settings, which win over ours
 * @param choosePort where to look for a port, so that a clash can be staged
 * @returns `ended` resolves when it is over, asked for or not: to its exit code, null after a signal
 * @throws EmbeddedPostgresError START_FAILED, with the end of the server's log
 */
export async function startServer(
  cluster: Cluster,
  settings: Settings,
  choosePort: () => Promise<number> = freePort,
) {
  for (let attempt = 1; ; attempt++) {
    const port = await choosePort();
    const child = await launch(cluster, port, settings);
    const failure = await whenReady(child, cluster.pgdata);
    if (failure === null) return { port, ended: whenOver(child), stop: () => stop(child) };
    await stop(child);
    if (attempt < PORT_ATTEMPTS && !(await isFree(port))) continue;
    throw new EmbeddedPostgresError(
      'START_FAILED',
      `${failure} while it started. Its log, ${cluster.logFile}, ends with:\n${await tail(cluster.logFile)}`,
    );
  }
}

type Settings = Readonly<Record<string, string>>;

function launch(cluster: Cluster, port: number, settings: Settings): Promise<ChildProcess> {
  const all = {
    listen_addresses: '127.0.0.1',
    port: String(port),
    unix_socket_directories: '',
    password_encryption: 'scram-sha-256',
    timezone: 'UTC',
    log_timezone: 'UTC',
    // A client that sends no password takes a slot for so long.
    authentication_timeout: '10s',
    // Since 16: slots that only Halyard's own logins get.
    ...(Number(cluster.binaries.version.split('.')[0]) >= 16 && { reserved_connections: '20' }),
    ...settings,
  };
  const options = Object.entries(all).map(([name, value]) => `${name}=${value}`);
  return spawnWatched({
    program: join(cluster.binaries.root, 'bin', 'postgres'),
    args: ['-D', cluster.pgdata, ...[OWNER_MARKER, ...options].flatMap((option) => ['-c', option])],
    account: cluster.account,
    logFile: cluster.logFile,
    pidFile: join(cluster.pgdata, 'postmaster.pid'),
  });
}

/** Null once the server accepts connections; else what went wrong. Reads what pg_ctl reads to know. */
async function whenReady(child: ChildProcess, pgdata: string): Promise<string | null> {
  const deadline = Date.now() + START_DEADLINE_MS;
  while (Date.now() < deadline) {
    if (child.exitCode !== null) return `PostgreSQL ended with code ${child.exitCode}`;
    if (child.signalCode !== null) return `PostgreSQL was ended by ${child.signalCode}`;
    const found = await readPidFile(pgdata);
    if (found?.pid === child.pid && found?.ready) return null;
    await delay(START_POLL_MS);
  }
  return `PostgreSQL was not ready after ${START_DEADLINE_MS / 1000} seconds`;
}

async function stop(child: ChildProcess): Promise<void> {
  for (const [signal, ms] of SHUTDOWNS) {
    child.kill(signal); // does nothing to one that is over
    if (await settlesWithin(ms, whenOver(child))) return;
  }
}

/** A port of 127.0.0.1 that is free at this moment. */
export function freePort(): Promise<number> {
  return listenOnce(0);
}

async function isFree(port: number): Promise<boolean> {
  try {
    return (await listenOnce(port)) === port;
  } catch (error) {
    if (isErrno(error) && error.code === 'EADDRINUSE') return false;
    throw error;
  }
}

async function listenOnce(port: number): Promise<number> {
  const server = createServer().listen(port, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return address.port;
}
