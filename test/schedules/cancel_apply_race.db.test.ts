import pg from 'pg';
import { expect, test } from 'vitest';
import { value } from '../support/actors.ts';
import { useDatabase, withClient, type TestDatabase } from '../support/database.ts';
import { insertFlag } from '../support/factory.ts';
import { become } from '../support/roles.ts';

const database = useDatabase();

const RACES = 1000;
const LANES = 4;

type Outcome = 'cancelled' | 'too late';

/** One flag and one due schedule a race. Gives the schedules' ids. */
async function makeRaces(client: pg.ClientBase): Promise<string[]> {
  await client.query(
    `insert into app_public.feature_flags (flag_key) select 'race-' || i from generate_series(1, $1) as i`,
    [RACES],
  );
  const { rows } = await client.query<{ id: string }>(
    `insert into app_public.feature_flag_schedules (flag_id, scheduled_at, updates)
     select id, now() - interval '1 second', '{"enabled": true}' from app_public.feature_flags
     where flag_key ~ '^race-' returning id`,
  );
  return rows.map(({ id }) => id);
}

/** Cancels as an admin, as the API does, in a transaction of its own. */
async function cancel(client: pg.Client, id: string): Promise<Outcome> {
  await client.query('begin');
  try {
    await become(client, 'admin', { userId: 'alice' });
    await client.query('select app_public.cancel_flag_schedule($1)', [id]);
    await client.query('commit');
    return 'cancelled';
  } catch (error) {
    await client.query('rollback');
    if (error instanceof pg.DatabaseError && error.code === 'ZF003') return 'too late';
    throw error;
  }
}

/** Cancels one schedule after the other while two workers apply whatever is due, a few at a time. */
async function race(database: TestDatabase, ids: readonly string[]): Promise<Map<string, Outcome>> {
  const outcomes = new Map<string, Outcome>();
  const waiting = [...ids];
  const canceller = () =>
    withClient(database.authenticatorUrl, async (client) => {
      for (let id = waiting.pop(); id !== undefined; id = waiting.pop())
        outcomes.set(id, await cancel(client, id));
    });
  const worker = () =>
    withClient(database.workerUrl, async (client) => {
      while (waiting.length > 0)
        await client.query('select * from app_private.apply_due($1)', [
          1 + Math.floor(Math.random() * 3),
        ]);
    });
  await Promise.all([...Array.from({ length: LANES }, canceller), worker(), worker()]);
  return outcomes;
}

test('cancelled at the moment of applying: one wins, 1,000 times', async () => {
  await withClient(database.ownerUrl, async (owner) => {
    const ids = await makeRaces(owner);
    // Workers take the lowest id first, the times being equal, and so do the cancellers, who pop from the end.
    const outcomes = await race(database, ids.toSorted().toReversed());
    await owner.query('select * from app_private.apply_due(1000)');
    expect(outcomes.size).toBe(RACES);

    const { rows } = await owner.query<{ id: string; status: string; good: boolean }>(
      `select s.id, s.status,
         f.enabled = (s.status = 'applied')
         and (s.applied_at is not null) = (s.status = 'applied')
         and (s.cancelled_at is not null) = (s.status = 'cancelled')
         and s.cancelled_by is not distinct from case s.status when 'cancelled' then 'alice' end
         and s.revision = 2
         and (
           select array_agg(e.event_type order by e.revision, e.event_type) from audit.events e
           where e.schedule_id = s.id
         ) is not distinct from case s.status
           when 'cancelled' then array['flag_schedule.created', 'flag_schedule.cancelled']
           else array['flag_schedule.created', 'feature_flag.updated', 'flag_schedule.applied']
         end as good
       from app_public.feature_flag_schedules s
       join app_public.feature_flags f on f.id = s.flag_id`,
    );
    expect(rows).toHaveLength(RACES);
    expect(rows.filter(({ good }) => !good)).toEqual([]);
    for (const { id, status } of rows)
      expect(status).toBe(outcomes.get(id) === 'cancelled' ? 'cancelled' : 'applied');
    expect(await value(owner, 'select count(*)::int from audit.dead_letters')).toBe(0);
    // Both sides win some, or this was no race.
    expect(new Set(rows.map(({ status }) => status)).size).toBe(2);
  });
});

test('both at work on one schedule: the second waits or passes, and sees what the first did', async () => {
  await withClient(database.ownerUrl, async (owner) => {
    const make = async () => {
      const flag = await insertFlag(owner);
      return value<string>(
        owner,
        `insert into app_public.feature_flag_schedules (flag_id, scheduled_at, updates)
         values ($1, now() - interval '1 second', '{"enabled": true}') returning id`,
        [flag.id],
      );
    };
    const apply = (client: pg.Client) =>
      value<number>(client, 'select applied from app_private.apply_due()');

    await withClient(database.authenticatorUrl, async (admin) => {
      await withClient(database.workerUrl, async (worker) => {
        const first = await make();
        await worker.query('begin');
        expect(await apply(worker)).toBe(1);
        const tooLate = cancel(admin, first);
        await worker.query('commit');
        expect(await tooLate).toBe('too late');

        const second = await make();
        await admin.query('begin');
        await become(admin, 'admin');
        await admin.query('select app_public.cancel_flag_schedule($1)', [second]);
        expect(await apply(worker)).toBe(0);
        await admin.query('commit');
        expect(await apply(worker)).toBe(0);
      });
    });
  });
});
