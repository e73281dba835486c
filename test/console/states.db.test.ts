import type pg from 'pg';
import { expect, test } from 'vitest';
import { value } from '../support/actors.ts';
import { makeRandom, type Random } from '../support/chaos/random.ts';
import { useDatabase, withRollback } from '../support/database.ts';
import { insertFlag } from '../support/factory.ts';

const database = useDatabase();

/** The long form, for a change of the rule: STATE_SETS=300. */
const SETS = Number(process.env.STATE_SETS ?? 50);
const SEED = 15;
const FLAGS = 4;
const SCHEDULES = 30;
/** The instants that schedules are for, in hours from now: several are for the same one. */
const HOURS = 8;

type State = Readonly<Record<'flag_key' | 'enabled' | 'rollout_percentage', unknown>>;

async function read(client: pg.ClientBase, from: string, values: unknown[] = []): Promise<State[]> {
  const text = `select flag_key, enabled, rollout_percentage from ${from} order by flag_key`;
  return (await client.query<State>(text, values)).rows;
}

const statesAt = (client: pg.ClientBase, at: unknown) =>
  read(client, `app_public.flag_state_at('production', $1)`, [at]);
const statesAfter = (client: pg.ClientBase, hours: number) =>
  read(client, `app_public.flag_state_at('production', now() + $1 * interval '1 hour')`, [hours]);
const statesNow = (client: pg.ClientBase) =>
  read(client, `app_public.feature_flags where environment = 'production'`);

/** The states as the upcoming changes leave them: of each flag's last change until then, or as they are now. */
const foldedAfter = (client: pg.ClientBase, hours: number) =>
  read(
    client,
    `(
      select distinct on (s.flag_key) s.flag_key, s.enabled, s.rollout_percentage
      from (
        select u.flag_key, u.enabled, u.rollout_percentage, u.place
        from (
          select u.*, row_number() over () as place
          from app_public.upcoming_changes('production', now(), now() + interval '1 day', 10000) as u
        ) as u
        where u.at <= now() + $1 * interval '1 hour'
        union all
        select f.flag_key, f.enabled, f.rollout_percentage, 0 from app_public.feature_flags f where f.environment = 'production'
      ) as s
      order by s.flag_key, s.place desc
    ) as folded`,
    [hours],
  );

const updatesOf = (random: Random): object => {
  const [enabled, rollout_percentage] = [random.next() < 0.5, random.between(0, 100)];
  return random.pick<object>([
    { enabled },
    { rollout_percentage },
    { enabled, rollout_percentage },
  ]);
};

/** Flags with schedules, of which some are moved and some are cancelled. */
async function fill(client: pg.ClientBase, random: Random): Promise<void> {
  await client.query('delete from app_public.feature_flags');
  const flags: string[] = [];
  for (let n = 0; n < FLAGS; n++)
    flags.push((await insertFlag(client, { rollout_percentage: random.between(0, 100) })).id);
  const schedules = Array.from({ length: SCHEDULES }, () => ({
    flag: flags[random.between(0, FLAGS - 1)],
    hours: random.between(1, HOURS),
    updates: updatesOf(random),
    moved: random.next() < 0.2 ? random.between(1, HOURS) : null,
    cancelled: random.next() < 0.15,
  }));
  await client.query(
    `with made as (
      insert into app_public.feature_flag_schedules (flag_id, scheduled_at, updates)
      select s.flag, now() + s.hours * interval '1 hour', s.updates
      from jsonb_to_recordset($1) as s (flag uuid, hours integer, updates jsonb)
    ) select`,
    [JSON.stringify(schedules)],
  );
  const { rows } = await client.query<{ id: string }>(
    'select id from app_public.feature_flag_schedules',
  );
  for (const [place, { id }] of rows.entries()) {
    const { moved = null, cancelled = false } = schedules[place] ?? {};
    if (moved === null && !cancelled) continue;
    await client.query(
      `update app_public.feature_flag_schedules
       set scheduled_at = coalesce(now() + $2 * interval '1 hour', scheduled_at), status = $3 where id = $1`,
      [id, moved, cancelled ? 'cancelled' : 'pending'],
    );
  }
}

/** What no rule foresees: a person changes a flag, or an attempt fails and the schedule waits for the next one. */
async function interfere(client: pg.ClientBase, random: Random, hour: number): Promise<void> {
  await client.query(
    random.next() < 0.5
      ? `update app_public.feature_flags set enabled = not enabled, rollout_percentage = $1::integer
         where id = (select id from app_public.feature_flags order by flag_key limit 1)`
      : `update app_public.feature_flag_schedules set next_attempt_at = scheduled_at + interval '90 minutes'
         where id in (
           select id from app_public.feature_flag_schedules
           where status = 'pending' and scheduled_at = now() + $1::integer * interval '1 hour' limit 2)`,
    [hour],
  );
}

/** Applies what comes until so many hours from now, by the worker's own functions, in its order. */
async function come(client: pg.ClientBase, hours: number): Promise<void> {
  await client.query(
    `select from app_private.apply_in_turns(array(
       select s.id from app_public.feature_flag_schedules s
       where s.status = 'pending' and greatest(s.scheduled_at, s.next_attempt_at) <= now() + $1 * interval '1 hour'
       order by s.scheduled_at, s.id))`,
    [hours],
  );
}

test(
  `the states asked for before are the states that come, and what the trail has: ${SETS} sets of schedules`,
  { timeout: 10_000 + SETS * 400 },
  async () => {
    const random = makeRandom(SEED);
    for (let set = 0; set < SETS; set++)
      await withRollback(database, async (client) => {
        await fill(client, random);
        const foreseen: State[][] = [];
        const foresee = async (hour: number) => {
          for (let at = hour; at <= HOURS; at++) foreseen[at] = await statesAfter(client, at);
        };
        await foresee(1);
        for (const hours of [1, 3, HOURS])
          expect(await foldedAfter(client, hours)).toEqual(foreseen[hours]);

        const history: [at: string, states: State[]][] = [];
        for (let hour = 1; hour <= HOURS; hour++) {
          if (random.next() < 0.2) {
            await interfere(client, random, hour);
            await foresee(hour);
          }
          await come(client, hour);
          const states = await statesNow(client);
          expect(states).toEqual(foreseen[hour]);
          history.push([await value(client, 'select clock_timestamp()::text'), states]);
        }
        for (const [at, states] of history) expect(await statesAt(client, at)).toEqual(states);
      });
  },
);
