import { withClient } from './database.ts';
import type { ExportedEvent } from './export.ts';
import type { TestDatabase } from './database.ts';

/** Where events are exported. */
export const PATH = '/api/admin/audit/events';
/** The days of `events`, without their last digit. */
export const DAY = '2026-11-2';

/** A trail with every kind of actor and field that filters tell apart. */
export const events: ExportedEvent[] = [
  { at: `${DAY}0T10:00:00Z`, flag: 'one', userId: 'alice', email: 'alice@example.com' },
  { at: `${DAY}0T11:00:00.000001Z`, flag: 'two', environment: 'staging', userId: 'bob' },
  { at: `${DAY}1T10:00:00Z`, flag: 'one', type: 'flag_schedule.applied', actorKind: 'system' },
  { at: `${DAY}2T10:00:00Z`, flag: 'one', actorKind: 'database', databaseUser: 'dba_dora' },
  { at: `${DAY}0T09:00:00Z`, flag: '=cmd', type: 'feature_flag.updated', userId: '@evil,"x"' },
  { at: `${DAY}3T00:00:00Z`, flag: 'late', type: 'flag_schedule.failed', userId: 'dba_dora' },
];

/** An answer of any kind, read whole. */
export async function readStream(url: string, token: string, headers: Record<string, string>) {
  const response = await fetch(url, {
    headers: { authorization: `Bearer ${token}`, ...headers },
  });
  return { status: response.status, headers: response.headers, text: await response.text() };
}

/** The exports in the trail. */
export async function recorded(database: TestDatabase) {
  return withClient(database.ownerUrl, async (client) => {
    const { rows } = await client.query<Record<string, unknown>>(
      `select id, admin_user_id, client_request_id, environment, metadata from audit.events
       where event_type = 'audit.exported' order by occurred_at`,
    );
    return rows;
  });
}
