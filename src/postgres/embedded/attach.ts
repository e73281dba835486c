import { stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from '../../lib/log.ts';
import { EmbeddedPostgresError } from './error.ts';
import { ifExists } from '../../lib/errno.ts';
import { superuserPassword } from './password.ts';
import { startEmbeddedPostgres } from './postgres.ts';
import { localUrl, readPidFile } from './postmaster.ts';

/** How long a server that another process is starting may take; recovery after a crash counts as starting. */
const READY_DEADLINE_MS = 60_000;

/**
 * Runs `work` on a data folder's PostgreSQL: the one that `npm start` runs on it now, else one started for the length of
 * `work`. Makes no new database.
 *
 * @param work is given the administrator's URL to the database `postgres`
 * @throws EmbeddedPostgresError DATA_DIR_UNUSABLE when the folder holds no database; what starting and `work` throw
 */
export async function withEmbeddedPostgres<T>(
  { dataDir, log }: { dataDir: string; log: Logger },
  work: (superuserUrl: string) => Promise<T>,
): Promise<T> {
  const folder = resolve(dataDir);
  if ((await ifExists(stat(join(folder, 'postgres')))) === null)
    throw new EmbeddedPostgresError(
      'DATA_DIR_UNUSABLE',
      `There is no database in ${folder}: set a database address, or HALYARD_DATA_DIR to where npm start keeps its data.`,
    );
  const server = await startEmbeddedPostgres({ dataDir: folder, log }).catch((error: unknown) => {
    if (error instanceof EmbeddedPostgresError && error.code === 'DATA_DIR_IN_USE') return null;
    throw error;
  });
  if (server === null) return work(await runningUrl(folder));
  try {
    return await work(server.superuserUrl);
  } finally {
    await server.stop();
  }
}

/** The administrator's URL to the server that another process runs on the folder, once that is ready. */
async function runningUrl(dataDir: string): Promise<string> {
  const deadline = Date.now() + READY_DEADLINE_MS;
  for (;;) {
    const found = await readPidFile(join(dataDir, 'postgres'));
    if (found?.ready === true) {
      const password = await superuserPassword(dataDir, false);
      return localUrl(found.port, 'postgres', password, 'postgres');
    }
    if (Date.now() > deadline)
      throw new EmbeddedPostgresError(
        'DATA_DIR_IN_USE',
        `Halyard runs on ${dataDir}, but its PostgreSQL is not ready. Try again when it is.`,
      );
    await delay(50);
  }
}
