import type pg from 'pg';
import { expect } from 'vitest';
import { actAsOwner, asWorker, value, withActors } from './actors.ts';
import { insertFlag, insertSchedule } from './factory.ts';
import { queuedEvents, type TrailEvent } from './trail.ts';
import type { TestDatabase } from './database.ts';

/** An admin, as a request names her. */
export const ALICE = { userId: 'alice', email: 'alice@example.com', requestId: 'request-1' };
/** A time, as an event has it. */
export const INSTANT: unknown = expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/);

/** The events that `work` adds to those of `prepare`. */
export async function eventsOf<T>(
  database: TestDatabase,
  prepare: (client: pg.ClientBase) => Promise<T>,
  work: (client: pg.ClientBase, prepared: T) => Promise<unknown>,
): Promise<TrailEvent[]> {
  return withActors(database, async (client) => {
    const prepared = await prepare(client);
    const before = await queuedEvents(client);
    await work(client, prepared);
    await actAsOwner(client);
    const events = (await queuedEvents(client)).slice(before.length);
    for (const event of events) expectPayloadToTellTheColumns(event);
    return events;
  });
}

function expectPayloadToTellTheColumns(event: TrailEvent): void {
  const { timestamp, ...rest } = JSON.parse(event.payload) as { timestamp: string };
  expect(rest).toEqual({
    eventType: event.event_type,
    eventId: event.id,
    level: event.level,
    environment: event.environment,
    requestId: event.request_id,
    actorKind: event.actor_kind,
    databaseUser: event.database_user,
    applicationName: event.application_name,
    ...(event.flag_id !== null && { flagId: event.flag_id }),
    ...(event.schedule_id !== null && { scheduleId: event.schedule_id }),
    ...(event.revision !== null && { revision: Number(event.revision) }),
    metadata: event.metadata,
  });
  expect(timestamp).toEqual(INSTANT);
  expect(Date.parse(timestamp)).toBe(event.occurred_at.getTime());
}

/** The time in a column of a schedule, as an event has it. */
export async function instant(client: pg.ClientBase, column: string, id: string): Promise<string> {
  return value(
    client,
    `select to_char(${column} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
     from app_public.feature_flag_schedules where id = $1`,
    [id],
  );
}

/** A schedule that is due in an hour, with its flag. */
export async function makeSchedule(client: pg.ClientBase) {
  const flag = await insertFlag(client, { flag_key: 'search', environment: 'staging' });
  const { id } = await insertSchedule(client, flag.id, {
    updates: { enabled: true, rollout_percentage: 40 },
  });
  return { id, flagId: flag.id, scheduledAt: await instant(client, 'scheduled_at', id) };
}

/** Applies what is due, as a worker. */
export const apply = (client: pg.ClientBase) =>
  asWorker(client, () => client.query('select * from app_private.apply_due()'));
