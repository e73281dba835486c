import pg from 'pg';
import type { Logger } from '../lib/log.ts';
import { prepareSession, warnOfDeviations } from './session.ts';

interface ConnectionOptions {
  /** What pg_stat_activity shows as application_name. */
  readonly name: string;
  /** Where the settings go that the login lacks; by default they aren't named. */
  readonly log?: Logger;
  /** Whether a login that isn't Halyard's gets the owner's settings, time-outs included. */
  readonly asOwner?: boolean;
}

/**
 * Runs `work` on a connection of its own, with the settings that Halyard counts on. When that is lost, the query in hand fails, or the next one; it ends no process.
 *
 * @param options what pg_stat_activity shows as application_name, and what else is to be settled
 * @throws the error of connecting, and what `work` throws
 */
export async function withConnection<T>(
  url: string,
  options: string | ConnectionOptions,
  work: (client: pg.Client) => Promise<T>,
): Promise<T> {
  const {
    name,
    log,
    asOwner = false,
  }: ConnectionOptions = typeof options === 'string' ? { name: options } : options;
  const client = new pg.Client({ connectionString: url, application_name: name });
  // The next query fails. Without a listener Node would end the process.
  client.on('error', () => undefined);
  await client.connect();
  try {
    const { deviations } = await prepareSession(client, { asOwner });
    if (log !== undefined) warnOfDeviations(log, deviations);
    return await work(client);
  } finally {
    await client.end();
  }
}
