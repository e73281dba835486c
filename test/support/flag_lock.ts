import { beforeAll, expect, vi } from 'vitest';
import { withClient } from './database.ts';
import type { TestDatabase } from './database.ts';
import { insertFlag, insertSchedule } from './factory.ts';

/** Holds the flag, as the worker does while it applies, for the length of `work`. */
export async function whileLocked(
  database: TestDatabase,
  flagId: string,
  work: () => Promise<void>,
) {
  await withClient(database.ownerUrl, async (holder) => {
    await holder.query('begin');
    await holder.query('select from app_public.feature_flags where id = $1 for update', [flagId]);
    await work();
    await holder.query('rollback');
  });
}

/** Resolves once so many backends of that database wait for a lock. */
export async function untilWaiting(database: TestDatabase, count = 1): Promise<void> {
  await withClient(database.rootUrl, async (root) => {
    await vi.waitFor(
      async () => {
        const { rows } = await root.query(
          `select from pg_stat_activity where datname = $1 and application_name = 'halyard-api' and wait_event_type = 'Lock'`,
          [database.name],
        );
        expect(rows).toHaveLength(count);
      },
      { timeout: 5_000, interval: 5 },
    );
  });
}

/**
 * In this database the API waits for a lock for a second only.
 *
 * @returns makes a flag with a schedule, whose `path` is its address
 */
export function useImpatientSchedules(database: TestDatabase) {
  beforeAll(async () => {
    await withClient(database.rootUrl, async (client) => {
      await client.query(
        `alter role halyard_authenticator in database ${database.name} set lock_timeout = '1s'`,
      );
    });
  });
  return () =>
    withClient(database.ownerUrl, async (client) => {
      const flag = await insertFlag(client);
      const { id } = await insertSchedule(client, flag.id);
      return { ...flag, path: `/api/admin/flags/${flag.flag_key}/schedule/${id}` };
    });
}
