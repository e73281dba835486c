import type pg from 'pg';
import { actAs, actAsOwner, asWorker, value } from './actors.ts';
import { become } from './roles.ts';

/** A row of a view. */
export type Row = Record<string, unknown>;

/** A view's rows as an auditor without limits reads them, oldest first. */
export async function read(client: pg.ClientBase, view: string, where = 'true'): Promise<Row[]> {
  await actAs(client, 'halyard_auditor');
  const { rows } = await client.query<Row>(
    `select * from audit.${view} where ${where} order by ${view === 'lateness_days' ? 'day' : 'occurred_at'}`,
  );
  await actAsOwner(client);
  return rows;
}

/** Schedules a change as that admin. */
export async function schedule(
  client: pg.ClientBase,
  userId: string | null,
  key: string,
  environment: string,
  email?: string,
) {
  await become(client, 'admin', {
    ...(userId === null ? {} : { userId }),
    ...(email === undefined ? {} : { email }),
  });
  const id = await value<string>(
    client,
    `select id from app_public.schedule_flag_change($1, $2, now() + interval '1 hour', '{"enabled": true}')`,
    [key, environment],
  );
  await actAsOwner(client);
  return id;
}

/** Cancels a schedule as that admin. */
export async function cancel(client: pg.ClientBase, userId: string | null, id: string) {
  await become(client, 'admin', userId === null ? {} : { userId });
  await client.query('select app_public.cancel_flag_schedule($1, $2)', [id, 'too early']);
  await actAsOwner(client);
}

/** Applies what is due, as the worker. */
export const apply = (client: pg.ClientBase) =>
  asWorker(client, () => client.query('select * from app_private.apply_due()'));
