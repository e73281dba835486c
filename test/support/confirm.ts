import type pg from 'pg';
import { value } from './actors.ts';

/** Confirms up to `batch` events behind a destination's cursor, by the worker's login and under a lease, as a forwarder does. */
export async function confirmNext(
  worker: pg.ClientBase,
  destination: string,
  batch: number,
): Promise<void> {
  const name = `forward.${destination}`;
  const take = `select app_private.take_lease($1, 'test', 60000)`;
  const token = await value<string>(worker, take, [name]);
  await worker.query(
    `select app_private.confirm_audit_events($1, $2, c, max(u.seq))
     from app_private.audit_cursor($1) as c, app_private.undelivered_audit_events($1, $3) as u
     group by c`,
    [destination, token, batch],
  );
  await worker.query('select app_private.release_lease($1, $2)', [name, token]);
}
