import type pg from 'pg';

/** A row of audit.events, as far as tests look at it. */
export interface TrailEvent {
  readonly id: string;
  readonly occurred_at: Date;
  readonly event_type: string;
  readonly level: string;
  readonly flag_id: string | null;
  readonly flag_key: string | null;
  readonly environment: string | null;
  readonly schedule_id: string | null;
  readonly revision: string | null;
  readonly actor_kind: string;
  readonly admin_user_id: string | null;
  readonly admin_email: string | null;
  readonly request_id: string | null;
  readonly client_request_id: string | null;
  readonly database_user: string;
  readonly application_name: string;
  readonly reconciled: boolean;
  readonly metadata: Record<string, unknown>;
  readonly payload: string;
}

/** The trail that the sequencer has not numbered yet, in the order in which it was written. */
export async function queuedEvents(client: pg.ClientBase): Promise<TrailEvent[]> {
  const { rows } = await client.query<TrailEvent>(
    'select e.* from audit.queue q join audit.events e on e.id = q.event_id order by q.id',
  );
  return rows;
}

/** What could not be written to the trail. */
export interface DeadLetter {
  readonly error_code: string;
  readonly error_message: string;
  readonly content: {
    readonly table: string;
    readonly operation: string;
    readonly at: string;
    readonly events: Record<string, unknown>[] | null;
    readonly rows: Record<string, unknown>[] | null;
    readonly oldRows: Record<string, unknown>[] | null;
    readonly context: Record<string, string | null>;
  };
}

export async function deadLetters(client: pg.ClientBase): Promise<DeadLetter[]> {
  const { rows } = await client.query<DeadLetter>('select * from audit.dead_letters order by id');
  return rows;
}

/** Makes every change of the flag with this key fail, inside the database, as a broken rule of somebody's would. */
export async function breakFlag(client: pg.ClientBase, flagKey: string): Promise<void> {
  await client.query(
    `create schema somebody;
     create function somebody.fail() returns trigger language plpgsql as $$
     begin raise exception 'the flag is broken'; end $$`,
  );
  await client.query(
    `create trigger _050_fail before update on app_public.feature_flags
     for each row when (old.flag_key = '${flagKey}') execute function somebody.fail()`,
  );
}

export async function mendFlag(client: pg.ClientBase): Promise<void> {
  await client.query(
    'drop trigger _050_fail on app_public.feature_flags; drop schema if exists somebody cascade',
  );
}
