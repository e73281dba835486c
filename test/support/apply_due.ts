import type pg from 'pg';
import { value } from './actors.ts';
import { one } from './factory.ts';

/** What a batch came to. */
export interface Outcome {
  readonly applied: number;
  readonly retried: number;
  readonly failed: number;
  readonly stuck: number;
}

/** Applies a batch of what is due. */
export async function apply(client: pg.ClientBase, batch = 100): Promise<Outcome> {
  const { rows } = await client.query<Outcome>(
    'select applied, retried, failed, stuck from app_private.apply_due($1)',
    [batch],
  );
  return one(rows);
}

/** An outcome with nothing in it but that. */
export function outcome(overrides: Partial<Outcome>): Outcome {
  return { applied: 0, retried: 0, failed: 0, stuck: 0, ...overrides };
}

/** Whether the flag is on, and for how many percent. */
export async function flagState(client: pg.ClientBase, id: string): Promise<string> {
  return value(
    client,
    `select enabled || ' ' || rollout_percentage from app_public.feature_flags where id = $1`,
    [id],
  );
}

/** What an attempt changes of a schedule. */
export interface Schedule {
  readonly status: string;
  readonly attempts: number;
  readonly error_message: string | null;
  readonly applied_at: Date | null;
  readonly wait: number | null;
}

/** The schedule, with the seconds from now to its next attempt. */
export async function read(client: pg.ClientBase, id: string): Promise<Schedule> {
  const { rows } = await client.query<Schedule>(
    `select status, attempts, error_message, applied_at,
       extract(epoch from next_attempt_at - clock_timestamp())::float8 as wait
     from app_public.feature_flag_schedules where id = $1`,
    [id],
  );
  return one(rows);
}
