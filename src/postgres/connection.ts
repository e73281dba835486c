import pg from 'pg';
import type { Logger } from '../lib/log.ts';
import { ConnectionError } from './error.ts';
import { prepareSession, warnOfDeviations } from './session.ts';

interface ConnectionOptions {
  /** What pg_stat_activity shows as application_name. */
  readonly name: string;
  /** The log that gets a warning of each setting that the login lacks; by default there is none. */
  readonly log?: Logger;
  /** Whether a login that isn't Halyard's gets the owner's settings, time-outs included. */
  readonly asOwner?: boolean;
}

/**
 * How long a connection may take to be made, in milliseconds, for what tries again or answers a request: the operating system would
 * wait for two minutes.
 */
export const CONNECT_TIMEOUT_MS = 5_000;

/** A command waits longer, because it doesn't try again. A start keeps this process busy for seconds meanwhile. */
const COMMAND_CONNECT_TIMEOUT_MS = 20_000;

/**
 * pg leaves a connection open on which it can't log in, as without a password: a command would go on until the server closes it.
 */
export class Client extends pg.Client {
  constructor(config?: string | pg.ClientConfig) {
    super(config);
    this.connection.on('error', () => this.connection.stream.destroy());
  }
}

/**
 * Runs `work` on a connection of its own, with the settings that Halyard counts on. When the connection is lost, the current or the next
 * query fails; the process goes on.
 *
 * @param options what pg_stat_activity shows as application_name, and what else is to be settled
 * @throws ConnectionError when there is no connection or it is lost, and what `work` throws
 */
export async function withConnection<T>(
  url: string,
  options: string | ConnectionOptions,
  work: (client: pg.Client) => Promise<T>,
): Promise<T> {
  const { name, log, asOwner }: ConnectionOptions =
    typeof options === 'string' ? { name: options } : options;
  const client = await connect(url, name);
  const loss = new AbortController();
  // The next query fails. Without a listener Node would end the process.
  client.on('error', () => loss.abort());
  try {
    const { deviations } = await prepareSession(client, { asOwner });
    if (log !== undefined) warnOfDeviations(log, deviations);
    return await work(client);
  } catch (error) {
    throw loss.signal.aborted ? new ConnectionError(url, error) : error;
  } finally {
    await client.end();
  }
}

async function connect(url: string, name: string): Promise<pg.Client> {
  const connectionTimeoutMillis = COMMAND_CONNECT_TIMEOUT_MS;
  try {
    const options = { connectionString: url, application_name: name, connectionTimeoutMillis };
    const client = new Client(options);
    client.on('error', () => undefined);
    await client.connect();
    return client;
  } catch (error) {
    throw new ConnectionError(url, error);
  }
}
