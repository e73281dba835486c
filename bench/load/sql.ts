import pg from 'pg';
import { makeRandom } from '../../test/support/chaos/random.ts';
import type { Answered, Extent } from '../load.ts';
import { makeCounter, serve } from './serve.ts';
import { drawChange } from './work.ts';

/**
 * The least that scheduling a change can be: clients that are an admin for their whole session, and call the function that
 * the API calls by a prepared statement, each in a transaction of its own.
 */
export interface SqlOptions {
  /** The authenticator's. */
  readonly databaseUrl: string;
}

export interface SqlTask {
  readonly connections: number;
  readonly extent: Extent;
  readonly seed: number;
}

const CREATE = {
  name: 'create',
  text: `
    select s.*
    from app_public.schedule_flag_change($1, 'production', $2, $3) s`,
};

async function connect(databaseUrl: string): Promise<pg.Client> {
  const client = new pg.Client({
    connectionString: databaseUrl,
    application_name: 'halyard bench',
  });
  await client.connect();
  await client.query(`
    select
      set_config('role', 'halyard_admin', false), set_config('jwt.claims.role', 'admin', false),
      set_config('jwt.claims.user_id', 'alice', false), set_config('jwt.claims.email', 'alice@example.com', false),
      set_config('halyard.request_id', 'bench', false)`);
  return client;
}

serve(({ databaseUrl }: SqlOptions) => {
  // Kept from one task to the next, as a pool keeps its connections.
  const clients: pg.Client[] = [];
  return Promise.resolve(async ({ connections, extent, seed }: SqlTask): Promise<Answered> => {
    while (clients.length < connections) clients.push(await connect(databaseUrl));
    const random = makeRandom(seed);
    const counter = makeCounter();
    const end = 'seconds' in extent ? performance.now() + 1_000 * extent.seconds : Infinity;
    let left = 'requests' in extent ? extent.requests : Infinity;
    await Promise.all(
      clients.slice(0, connections).map(async (client) => {
        while (performance.now() < end && left-- > 0) {
          const { flagKey, scheduledAt, enabled, rolloutPercentage } = drawChange(random);
          const startedAt = performance.now();
          const updates = { enabled, rollout_percentage: rolloutPercentage };
          await client.query(CREATE, [flagKey, scheduledAt, updates]);
          counter.count(performance.now() - startedAt);
        }
      }),
    );
    return counter.answered();
  });
});
