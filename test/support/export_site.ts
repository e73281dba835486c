import { onTestFinished } from 'vitest';
import { startTestApi } from './api.ts';
import type { TestApi } from './api.ts';
import { cloneDatabase, withClient } from './database.ts';
import type { TestDatabase } from './database.ts';
import { addEvents, linesOf, openStream } from './export.ts';
import type { Stream } from './export.ts';
import { auditorToken } from './tokens.ts';

/** Where events are exported. */
export const PATH = '/api/admin/audit/events';
export const WAIT = { timeout: 10_000, interval: 20 };

/** A database with an API of its own, and its clients. */
export interface Site {
  readonly database: TestDatabase;
  readonly api: TestApi;
  readonly open: (
    query: string,
    options?: { token?: string; accept?: string; paused?: boolean },
  ) => Promise<Stream>;
  readonly add: (...events: Parameters<typeof addEvents>[1]) => Promise<void>;
}

/** A database, a clone of that one, and an API of one test's own: what is tested here ends them, or breaks them. */
export async function startSite(
  template?: TestDatabase,
  env: Readonly<Record<string, string>> = {},
): Promise<Site> {
  const database = await cloneDatabase(template?.name);
  onTestFinished(() => database.drop());
  const api = await startTestApi(database.authenticatorUrl, { drainMs: 3_000, env });
  onTestFinished(() => api.close());
  return {
    database,
    api,
    async open(query, { token = auditorToken(), ...options } = {}) {
      const stream = await openStream(`${api.url}${PATH}?${query}`, token, options);
      onTestFinished(() => stream.destroy());
      return stream;
    },
    add: (...events) => withClient(database.ownerUrl, (client) => addEvents(client, events)),
  };
}

export const flagsOf = (stream: Stream) => linesOf(stream.text()).map(({ flag_key }) => flag_key);
