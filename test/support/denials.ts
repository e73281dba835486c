import { expect } from 'vitest';
import { withClient } from './database.ts';
import type { TrailEvent } from './trail.ts';
import type { TestDatabase } from './database.ts';

/** The user's events of denied requests, oldest first. */
export async function denials(
  database: TestDatabase,
  userId: string | null,
): Promise<TrailEvent[]> {
  return withClient(database.ownerUrl, async (client) => {
    const { rows } = await client.query<TrailEvent>(
      `select * from audit.events
       where event_type = 'access.denied' and admin_user_id is not distinct from $1
       order by occurred_at`,
      [userId],
    );
    return rows;
  });
}

/** The user's events, once there are as many. */
export async function untilDenials(
  database: TestDatabase,
  userId: string | null,
  count: number,
): Promise<TrailEvent[]> {
  await expect
    .poll(async () => (await denials(database, userId)).length, { timeout: 20_000 })
    .toBe(count);
  return denials(database, userId);
}
