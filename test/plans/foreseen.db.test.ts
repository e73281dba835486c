import type pg from 'pg';
import { expect, test } from 'vitest';
import { value } from '../support/actors.ts';
import { isFull } from '../support/chaos/form.ts';
import { makeRandom, type Random } from '../support/chaos/random.ts';
import { useDatabase, withRollback } from '../support/database.ts';
import { insertFlag } from '../support/factory.ts';
import { insertPlan, type FlagChange } from '../support/plan_points.ts';

const database = useDatabase();

/** `--mode full` looks at more. */
/** Eight plans each. */
const SETS = isFull() ? 300 : 10;
const SEED = 16;
const ENVIRONMENTS = ['production', 'staging'];
const FLAGS = 3;
const PLANS = 8;
const SCHEDULES = 6;
/** What comes is for these minutes from now; each is looked at. */
const MINUTES = 40;
const LOOKS = [5, 15, 25, MINUTES];

interface State {
  readonly flag_key: string;
  readonly enabled: boolean;
  readonly rollout_percentage: number;
  readonly certain?: boolean;
}

/** The states of both environments, by key. */
async function read(client: pg.ClientBase, source: string, values: unknown[]): Promise<State[]> {
  const { rows } = await client.query<State>(
    `select s.* from unnest($1::text[]) as e (name) cross join lateral (${source}) as s order by s.flag_key`,
    [ENVIRONMENTS, ...values],
  );
  return rows;
}

const FIELDS = 'flag_key, enabled, rollout_percentage';
const statesAt = (client: pg.ClientBase, at: string) =>
  read(client, `select ${FIELDS} from app_public.flag_state_at(e.name, $2)`, [at]);
const foresee = (client: pg.ClientBase, minutes: number) =>
  read(
    client,
    `select ${FIELDS}, certain from app_public.flag_state_at(e.name, now() + $2 * interval '1 minute')`,
    [minutes],
  );
const statesNow = (client: pg.ClientBase) =>
  read(client, `select ${FIELDS} from app_public.feature_flags where environment = e.name`, []);

/** Few values, so that guards often find what they expect. */
function valuesOf(random: Random): object {
  const [enabled, rollout_percentage] = [random.next() < 0.5, random.pick([10, 50, 100])];
  return random.pick<object>([
    { enabled },
    { rollout_percentage },
    { enabled, rollout_percentage },
  ]);
}

function guardOf(random: Random): Partial<FlagChange> {
  const on_conflict = random.pick(['overwrite', 'overwrite', 'keep', 'suspend'] as const);
  return on_conflict === 'overwrite' ? {} : { on_conflict, expects: valuesOf(random) };
}

/** Flags of two environments, with plans over both and schedules of their own; returns whether some come at one instant. */
async function fill(client: pg.ClientBase, random: Random): Promise<boolean> {
  await client.query('delete from app_public.feature_flags; delete from app_public.plans');
  const flags: FlagChange['flag'][] = [];
  for (const environment of ENVIRONMENTS)
    for (let n = 0; n < FLAGS; n++)
      flags.push(
        await insertFlag(client, { environment, rollout_percentage: random.pick([10, 50, 100]) }),
      );
  const meet = random.next() < 0.3;
  const minutes = Array.from({ length: MINUTES }, (_, n) => n + 1);
  const nextMinute = () =>
    meet && random.next() < 0.3
      ? random.pick([10, 20])
      : (minutes.splice(random.between(0, minutes.length - 1), 1)[0] ?? MINUTES);
  for (let n = 0; n < PLANS; n++) {
    const chosen = flags.filter(() => random.next() < 0.4);
    if (chosen.length > 0)
      await insertPlan(
        client,
        `${nextMinute()} minutes`,
        chosen.map((flag) => ({ flag, updates: valuesOf(random), ...guardOf(random) })),
      );
  }
  for (let n = 0; n < SCHEDULES; n++)
    await client.query(
      `insert into app_public.feature_flag_schedules (flag_id, scheduled_at, updates)
       values ($1, now() + $2 * interval '1 minute', $3)`,
      [flags[random.between(0, flags.length - 1)]?.id, nextMinute(), valuesOf(random)],
    );
  return meet;
}

/** Applies what comes until so many minutes from now, by the worker's own functions, in its order. */
async function come(client: pg.ClientBase, minutes: number): Promise<void> {
  await client.query(
    `select from app_private.apply_in_turns(array(
       select s.id from app_public.feature_flag_schedules s
       where s.status = 'pending' and s.scheduled_at <= now() + $1 * interval '1 minute'
       order by s.scheduled_at, s.id))`,
    [minutes],
  );
}

const withoutCertainty = (states: readonly State[]) =>
  states.map(({ flag_key, enabled, rollout_percentage }) => ({
    ...{ flag_key, enabled, rollout_percentage },
  }));

test(
  `the states asked for before are those that come, with plans, guards and stops, and what the trail has: ${SETS} sets`,
  { timeout: 20_000 + SETS * 400 },
  async () => {
    const random = makeRandom(SEED);
    const seen = { certain: 0, uncertain: 0, suspended: 0, kept: 0 };
    for (let set = 0; set < SETS; set++)
      await withRollback(database, async (client) => {
        const meet = await fill(client, random);
        // A stop that ends before anything came changes nothing but the certainty.
        const isStopped = random.next() < 0.2;
        if (isStopped) await client.query(`select app_private.stop_environment('staging', 'fire')`);
        const foreseen: State[][] = [];
        for (const minutes of LOOKS) foreseen.push(await foresee(client, minutes));
        if (isStopped)
          await client.query(`select app_private.resume_environment('staging', 'apply', 'over')`);

        const history: [at: string, states: State[]][] = [];
        for (const [look, minutes] of LOOKS.entries()) {
          await come(client, minutes);
          const states = await statesNow(client);
          const before = foreseen[look] ?? [];
          // Where some come at one instant, only what is called certain need be right.
          const compared = (of: readonly State[]) =>
            withoutCertainty(of.filter((_, n) => !meet || before[n]?.certain === true));
          expect(compared(before), `set ${set}, minute ${minutes}`).toEqual(compared(states));
          for (const { certain } of before) seen[certain === true ? 'certain' : 'uncertain'] += 1;
          history.push([await value(client, 'select clock_timestamp()::text'), states]);
        }
        for (const [at, states] of history) expect(await statesAt(client, at)).toEqual(states);
        seen.suspended += await value<number>(
          client,
          `select count(*)::int from app_public.feature_flag_schedules where status = 'suspended'`,
        );
        seen.kept += await value<number>(
          client,
          `select count(*)::int from app_public.feature_flag_schedules where kept is not null`,
        );
      });
    // Each of them occurred, and most is certain.
    expect(Math.min(seen.uncertain, seen.suspended, seen.kept)).toBeGreaterThan(SETS / 2);
    expect(seen.certain).toBeGreaterThan(4 * seen.uncertain);
  },
);
