import type pg from 'pg';
import { insertFlag, insertSchedule } from './factory.ts';

export const STATUSES = [
  'pending',
  'suspended',
  'applied',
  'failed',
  'cancelled',
  'skipped',
] as const;
export type Status = (typeof STATUSES)[number];

/** A schedule brought to a status on the ways that the state machine allows. */
export async function insertAs(client: pg.ClientBase, status: Status): Promise<string> {
  const { id } = await insertSchedule(client, (await insertFlag(client)).id);
  if (status !== 'pending') await setStatus(client, id, status);
  return id;
}

/** Past the API, as an owner does; suspended for a stop. */
export async function setStatus(client: pg.ClientBase, id: string, status: string): Promise<void> {
  await client.query(
    `update app_public.feature_flag_schedules
     set status = $2, suspended_for = case $2 when 'suspended' then 'stop' end where id = $1`,
    [id, status],
  );
}
