import pg from 'pg';

// A new session costs twenty milliseconds of processor time: a process of the server's, the login, and every catalog and function
// read again. So the tests of this process use sessions again.

/** Sessions that no test uses, by URL. */
const idle = new Map<string, pg.Client[]>();

/** Ends what a test may have left behind: its transaction, settings, role, locks, subscriptions and temporary tables. */
const RESET = `rollback; set session authorization default; reset all; unlisten *; close all;
  discard temp; discard sequences; select pg_advisory_unlock_all()`;

/**
 * A session as new: an idle one if there is any.
 *
 * @param url whose session, and of which database
 */
export async function takeClient(url: string): Promise<pg.Client> {
  for (let kept = idle.get(url)?.pop(); kept !== undefined; kept = idle.get(url)?.pop()) {
    streamOf(kept).ref();
    // A test may have ended it, with other sessions of its database.
    const alive = await kept.query('').then(
      () => true,
      () => false,
    );
    if (alive) return kept;
  }
  const client = new pg.Client({ connectionString: url, application_name: 'halyard test' });
  await client.connect();
  return client;
}

/** Takes back what takeClient() gave. Nothing that was done in the session lasts, but what was committed. */
export async function returnClient(url: string, client: pg.Client): Promise<void> {
  client.removeAllListeners();
  client.on('error', () => {
    idle.set(
      url,
      (idle.get(url) ?? []).filter((other) => other !== client),
    );
  });
  const isReset = await client.query(RESET).then(
    () => true,
    () => false,
  );
  if (!isReset) {
    await client.end();
    return;
  }
  streamOf(client).unref();
  idle.set(url, [...(idle.get(url) ?? []), client]);
}

/** Ends the idle sessions of a database, which a template must not have, and one that is dropped does not need. */
export async function endIdle(database: string): Promise<void> {
  const urls = [...idle.keys()].filter((url) => new URL(url).pathname === `/${database}`);
  const clients = urls.flatMap((url) => idle.get(url) ?? []);
  for (const url of urls) idle.delete(url);
  await Promise.all(clients.map((client) => client.end()));
}

/** An idle session keeps no process from ending. */
function streamOf(client: pg.Client): { ref(): void; unref(): void } {
  return (client as unknown as { connection: { stream: { ref(): void; unref(): void } } })
    .connection.stream;
}
