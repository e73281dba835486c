import type pg from 'pg';

let count = 0;

/** A flag, inserted by the connection's role; a key of its own unless given. */
export async function insertFlag(
  client: pg.ClientBase,
  overrides: Partial<{
    flag_key: string;
    environment: string;
    enabled: boolean;
    rollout_percentage: number;
  }> = {},
): Promise<{ id: string; flag_key: string; environment: string }> {
  count += 1;
  const flag = {
    flag_key: `flag-${String(process.pid)}-${String(count)}`,
    environment: 'production',
    enabled: false,
    rollout_percentage: 100,
    ...overrides,
  };
  const { rows } = await client.query<{ id: string; flag_key: string; environment: string }>(
    `insert into app_public.feature_flags (flag_key, environment, enabled, rollout_percentage)
     values ($1, $2, $3, $4)
     returning id, flag_key, environment`,
    [flag.flag_key, flag.environment, flag.enabled, flag.rollout_percentage],
  );
  return one(rows);
}

/**
 * A schedule of a flag, inserted by the connection's role; due in an hour unless `dueIn` (an interval's text) says
 * otherwise. Without claims it may be negative.
 */
export async function insertSchedule(
  client: pg.ClientBase,
  flagId: string,
  overrides: Partial<{ dueIn: string; updates: object; max_attempts: number }> = {},
): Promise<{ id: string; scheduled_at: Date }> {
  const schedule = { dueIn: '1 hour', updates: { enabled: true }, max_attempts: 3, ...overrides };
  const { rows } = await client.query<{ id: string; scheduled_at: Date }>(
    `insert into app_public.feature_flag_schedules (flag_id, scheduled_at, updates, max_attempts)
     values ($1, clock_timestamp() + $2::interval, $3, $4)
     returning id, scheduled_at`,
    [flagId, schedule.dueIn, JSON.stringify(schedule.updates), schedule.max_attempts],
  );
  return one(rows);
}

/** The only row of a result. */
export function one<T>(rows: readonly T[]): T {
  const [row, ...others] = rows;
  if (row === undefined || others.length > 0) {
    throw new Error(`Expected one row, got ${String(rows.length)}.`);
  }
  return row;
}
