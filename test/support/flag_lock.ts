import { expect, vi } from 'vitest';
import { withClient } from './database.ts';
import type { TestDatabase } from './database.ts';

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
