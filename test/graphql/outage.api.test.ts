import { describe, expect, it, vi } from 'vitest';
import { startGraphql, useGraphql } from '../support/graphql.ts';
import { useDatabase, withClient } from '../support/database.ts';

const database = useDatabase();
const api = useGraphql(database);

const QUERY = '{ featureFlags(first: 1) { nodes { id } } }';

/** Ends the one session that waits for a lock, once there is one. */
async function endWaitingSession(): Promise<void> {
  await withClient(database.rootUrl, (root) =>
    vi.waitFor(async () => {
      const ended = await root.query(
        `select pg_terminate_backend(pid) from pg_stat_activity
         where datname = current_database() and wait_event_type = 'Lock'`,
      );
      expect(ended.rowCount).toBe(1);
    }, 5_000),
  );
}

describe('a connection that is lost', () => {
  it('is database_unavailable, and the next request works', async () => {
    await withClient(database.ownerUrl, async (owner) => {
      const { rows } = await owner.query<{ id: string }>(
        `insert into app_public.feature_flags (flag_key) values ('lost') returning id`,
      );
      await owner.query('begin');
      await owner.query('select from app_public.feature_flags where id = $1 for update', [
        rows[0]?.id,
      ]);
      const update = `mutation { updateFeatureFlag(input: { id: "${rows[0]?.id}", patch: { enabled: true } }) { clientMutationId } }`;
      const code = api().codeOf(update);
      await endWaitingSession();
      expect(await code).toBe('database_unavailable');
      await owner.query('rollback');
      await api().data(update);
    });
  });
});

describe('a connection that is lost while it commits', () => {
  it('is database_unavailable', async () => {
    await withClient(database.rootUrl, async (root) => {
      await root.query(`
        create function app_private.hang() returns trigger language plpgsql security definer
          as $$ begin perform pg_advisory_xact_lock(77); return null; end $$;
        create constraint trigger hang after insert on app_public.feature_flags
          deferrable initially deferred for each row execute function app_private.hang();
        select pg_advisory_lock(77)`);
      const code = api().codeOf(
        'mutation { createFeatureFlag(input: { featureFlag: { flagKey: "hangs" } }) { clientMutationId } }',
      );
      await endWaitingSession();
      expect(await code).toBe('database_unavailable');
      await root.query(
        'drop trigger hang on app_public.feature_flags; drop function app_private.hang()',
      );
    });
  });
});

describe('without a database', () => {
  it('answers database_unavailable, and works once it is there', async () => {
    const url = new URL(database.authenticatorUrl);
    url.pathname = '/not_there';
    const down = await startGraphql({ authenticatorUrl: url.href });
    try {
      const answer = await down.post(QUERY);
      expect([answer.status, answer.errors?.[0]?.extensions.code]).toEqual([
        503,
        'database_unavailable',
      ]);
      expect(answer.headers.get('retry-after')).toBe('1');
      expect(down.graphql.healthy()).toBe(false);
    } finally {
      await down.close();
    }
  });
});
