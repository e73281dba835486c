import type pg from 'pg';
import { value } from './actors.ts';
import { withClient, type TestDatabase } from './database.ts';
import { insertFlag, insertSchedule } from './factory.ts';
import { withoutAudit } from './reconcile.ts';
import { become } from './roles.ts';
import { breakFlag } from './trail.ts';

/** The flags of the story that an auditor asks about. */
export async function makeFlags(client: pg.Client): Promise<void> {
  await insertFlag(client, { flag_key: 'wishlist-gallery' });
  await insertFlag(client, { flag_key: 'broken' });
}

/** Alice schedules twice and cancels one; Bob cancels the other. */
export async function askAsAdmins(client: pg.Client): Promise<void> {
  let nr = 0;
  const as = async (userId: string, sql: string, parameters: unknown[] = []) => {
    nr += 1;
    await client.query('begin');
    await become(client, 'admin', {
      userId,
      email: `${userId}@example.com`,
      requestId: `request-${nr}`,
    });
    const id = await value<string>(client, sql, parameters);
    await client.query('commit');
    return id;
  };
  const schedule = (updates: string) =>
    `select id from app_public.schedule_flag_change('wishlist-gallery', null, now() + interval '1 hour', ${updates})`;
  const first = await as('alice', schedule(`'{"enabled": true}'`));
  const second = await as('alice', schedule(`'{"rollout_percentage": 50}'`));
  await as('alice', 'select id from app_public.cancel_flag_schedule($1)', [first]);
  await as('bob', `select id from app_public.cancel_flag_schedule($1, 'too early')`, [second]);
  await as('carol', `select name from app_public.create_environment('qa')`);
}

/** One schedule is applied late, one fails, one event ends as a dead letter, one is lost, and a cursor jumps. */
export async function applyAndFail(database: TestDatabase, client: pg.Client): Promise<void> {
  const flagId = (key: string) =>
    value<string>(client, 'select id from app_public.feature_flags where flag_key = $1', [key]);
  await insertSchedule(client, await flagId('wishlist-gallery'), { dueIn: '-1 minute' });
  await insertSchedule(client, await flagId('broken'), { dueIn: '-1 second', max_attempts: 1 });
  await breakFlag(client, 'broken');
  await withClient(database.workerUrl, (worker) =>
    worker.query('select * from app_private.apply_due()'),
  );
  await client.query('alter table audit.events rename to events_away');
  await insertFlag(client, { flag_key: 'untold' });
  await client.query('alter table audit.events_away rename to events');
  await withoutAudit(client, () => insertFlag(client, { flag_key: 'lost' }));
  await client.query(
    `select app_private.reconcile_rows('feature_flags', '00000000-0000-0000-0000-000000000000', '-infinity', 10)`,
  );
  await client.query('select app_private.seal_batch(1000, 0)');
  await client.query(`insert into audit.cursors (destination, last_seq) values ('stdout', 3)`);
}
