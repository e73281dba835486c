import pg from 'pg';
import { makeRandom } from '../../test/support/chaos/random.ts';
import type { Answered } from '../load.ts';
import { makeCounter, serve } from './serve.ts';

/** Clients that insert schedules, one row and one transaction at a time. */
export interface InsertOptions {
  /** An administrator's, and the authenticator's. */
  readonly rootUrl: string;
  readonly authenticatorUrl: string;
  readonly flagIds: readonly string[];
}

export interface InsertTask {
  /** The tables' owner, for whom there is no row-level security, or an admin with claims. */
  readonly as: 'owner' | 'admin';
  readonly connections: number;
  readonly seconds: number;
  readonly seed: number;
}

const SETTINGS: Record<InsertTask['as'], Record<string, string>> = {
  owner: { role: 'halyard_owner' },
  admin: {
    role: 'halyard_admin',
    'jwt.claims.role': 'admin',
    'jwt.claims.user_id': 'alice',
    'jwt.claims.email': 'alice@example.com',
    'halyard.request_id': 'bench',
  },
};

const INSERT = {
  name: 'insert',
  text: `
    insert into app_public.feature_flag_schedules (flag_id, scheduled_at, updates)
    values ($1, now() + interval '10 years', '{"enabled": true}')`,
};

async function connect(url: string, settings: Record<string, string>): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url, application_name: 'halyard bench' });
  await client.connect();
  for (const setting of Object.entries(settings))
    await client.query('select set_config($1, $2, false)', setting);
  return client;
}

serve(({ rootUrl, authenticatorUrl, flagIds }: InsertOptions) => {
  // Kept from one task to the next, as a pool keeps its connections.
  const clients: Record<InsertTask['as'], pg.Client[]> = { owner: [], admin: [] };
  const urls = { owner: rootUrl, admin: authenticatorUrl };
  return Promise.resolve(
    async ({ as, connections, seconds, seed }: InsertTask): Promise<Answered> => {
      while (clients[as].length < connections)
        clients[as].push(await connect(urls[as], SETTINGS[as]));
      const random = makeRandom(seed);
      const counter = makeCounter();
      const end = performance.now() + 1_000 * seconds;
      await Promise.all(
        clients[as].slice(0, connections).map(async (client) => {
          while (performance.now() < end) {
            const flagId = flagIds[random.between(0, flagIds.length - 1)];
            const startedAt = performance.now();
            await client.query(INSERT, [flagId]);
            counter.count(performance.now() - startedAt);
          }
        }),
      );
      return counter.answered();
    },
  );
});
