import { join } from 'node:path';
import { pino } from 'pino';
import { onTestFinished } from 'vitest';
import { startEmbeddedPostgres } from '../../../src/postgres/embedded/postgres.ts';
import type { EmbeddedPostgres } from '../../../src/postgres/embedded/postgres.ts';
import { withDatabase } from '../../../src/postgres/setup.ts';
import type { TestDatabase } from '../database.ts';
import { postmasterPid } from '../embedded.ts';
import { loginsTo, makeMigrated } from '../migrated.ts';
import { makeDataDir, removeDataDir } from '../postgres_server.ts';
import { startTcpProxy } from '../tcp_proxy.ts';

/** A PostgreSQL server of the test's own, whose data outlive it. */
export interface ChaosServer {
  /** The only database; its addresses stay the same when the server is started anew. */
  readonly database: TestDatabase;
  /** `pg_ctl stop -m immediate`, and starts it again, which recovers from the log. */
  crash(): Promise<void>;
}

const NAME = 'halyard';
const PASSWORD = 'chaos';

/**
 * Starts it with a migrated database; it is stopped and removed after the test.
 *
 * @param settings the server's; by default those of production, so that what a client was told is on disk
 */
export async function startChaosServer(
  settings: Readonly<Record<string, string>> = {},
): Promise<ChaosServer> {
  const log = pino({ level: 'silent' });
  const dataDir = await makeDataDir();
  const start = () => startEmbeddedPostgres({ dataDir, log, settings });
  let server: EmbeddedPostgres = await start();
  const target = { host: '127.0.0.1', port: server.port };
  const address = await startTcpProxy(target);
  onTestFinished(async () => {
    await address[Symbol.asyncDispose]();
    await server.stop();
    await removeDataDir(dataDir, join(dataDir, 'postgres'));
  });

  const root = new URL(withDatabase(server.superuserUrl, NAME));
  root.port = String(address.port);
  const logins = loginsTo(root.href, PASSWORD, NAME);
  await makeMigrated(server.superuserUrl, logins);

  return {
    database: { name: NAME, rootUrl: root.href, ...logins, drop: () => Promise.resolve() },
    async crash() {
      process.kill(await postmasterPid(server.dataDir), 'SIGQUIT');
      await server.exited;
      server = await start();
      target.port = server.port;
    },
  };
}
