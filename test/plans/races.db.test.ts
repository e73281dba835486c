import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { value } from '../support/actors.ts';
import { byForm } from '../support/chaos/form.ts';
import { useDatabase, withClient } from '../support/database.ts';
import { become } from '../support/roles.ts';

const database = useDatabase();
const RACES = byForm({ short: 25, full: 500 });
const LONG = { timeout: byForm({ short: 20_000, full: 600_000 }) };
const FLAGS = 3;

let owner: pg.Client;
let worker: pg.Client;
let admins: readonly [pg.Client, pg.Client];

beforeAll(async () => {
  const connect = async (connectionString: string) => {
    const client = new pg.Client({ connectionString });
    await client.connect();
    return client;
  };
  owner = await connect(database.ownerUrl);
  worker = await connect(database.workerUrl);
  admins = [await connect(database.authenticatorUrl), await connect(database.authenticatorUrl)];
  await owner.query(
    `insert into app_public.feature_flags (flag_key, enabled, rollout_percentage)
     select 'race-' || i, false, 10 from generate_series(1, $1) as i`,
    [FLAGS],
  );
});

afterAll(async () => {
  await Promise.all([owner, worker, ...admins].map((client) => client.end()));
});

/** As a request of the API: `done`, or the SQLSTATE with which it is refused. */
async function act(client: pg.Client, sql: string, parameters: unknown[] = []): Promise<string> {
  await client.query('begin');
  try {
    await become(client, 'admin', { userId: 'alice' });
    await client.query(`select app_public.${sql}`, parameters);
    await client.query('commit');
    return 'done';
  } catch (error) {
    await client.query('rollback');
    if (error instanceof pg.DatabaseError) return error.code ?? 'no code';
    throw error;
  }
}

const apply = () => worker.query('select from app_private.apply_due()').then(() => 'applied');

/** A plan of all flags that turns them on, and is due now. */
const stepsWith = (updates: object) =>
  JSON.stringify([
    {
      changes: Array.from({ length: FLAGS }, (_, i) => ({
        ...{ flag_key: `race-${i + 1}`, environment: 'production', updates },
      })),
    },
  ]);

async function makePlan(): Promise<string> {
  await owner.query(
    `update app_public.feature_flags set enabled = false, rollout_percentage = 10
     where (enabled, rollout_percentage) is distinct from (false, 10)`,
  );
  const [client] = admins;
  await client.query('begin');
  await become(client, 'admin', { userId: 'alice' });
  const id = await value<string>(client, `select id from app_public.create_plan('Race', $1)`, [
    stepsWith({ enabled: true }),
  ]);
  await client.query('commit');
  return id;
}

/** A plan's end: its status, those of its schedules and the states of the flags, each once. */
async function stateOf(id: string): Promise<string> {
  return value(
    owner,
    `select concat_ws(' | ', p.status,
       (select string_agg(distinct concat_ws(' ', s.status, s.suspended_for), ', ') from app_public.feature_flag_schedules s where s.plan_id = p.id),
       (select string_agg(distinct concat_ws(' ', f.enabled, f.rollout_percentage), ', ') from app_public.feature_flags f))
     from app_public.plans p where p.id = $1`,
    [id],
  );
}

type Lead = (side: 0 | 1) => Promise<void>;

/**
 * How often each outcome came, of races that are run one after the other, each with a head start of its own for one side. A busy
 * machine may keep one side behind in all of them: then there are more, with longer head starts.
 */
async function race(run: (lead: Lead) => Promise<string>) {
  const outcomes = new Map<string, number>();
  for (let i = 0; i < RACES || (outcomes.size < 2 && i < 4 * RACES); i++) {
    const ms = Math.floor(i / RACES) * 20 + (i % 9);
    const lead: Lead = async (side) => {
      if (side === i % 2) await owner.query('select pg_sleep($1)', [ms / 1_000]);
    };
    const outcome = await run(lead);
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
  }
  return outcomes;
}

/** Two things at the same instant, but for the lead of one. */
const together = (lead: Lead, a: () => Promise<string>, b: () => Promise<string>) =>
  Promise.all([lead(0).then(a), lead(1).then(b)]);

const APPLIED = 'completed | applied | t 10';
const HELD = 'active | suspended stop | f 10';

test(
  'a stop at the moment of applying: the plan is applied before it, or suspended; afterwards nothing is',
  LONG,
  async () => {
    const outcomes = await race(async (lead) => {
      const id = await makePlan();
      // Looked at when the stop has returned, whether or not the batch has.
      let seen = '';
      const stop = async () => {
        const stopped = await act(admins[0], `stop_environment('production', 'race')`);
        seen = await stateOf(id);
        return stopped;
      };
      expect((await together(lead, apply, stop))[1]).toBe('done');
      // What was pending is suspended by the next look.
      await apply();
      const state = await stateOf(id);
      expect(state).toBe(seen === APPLIED ? APPLIED : HELD);
      expect(await act(admins[0], `resume_environment('production', 'skip', 'race')`)).toBe('done');
      return state;
    });
    expect([...outcomes.keys()].toSorted()).toEqual([HELD, APPLIED]);
  },
);

test(
  'an edit at the moment of applying: what is applied is wholly one content or the other',
  LONG,
  async () => {
    const outcomes = await race(async (lead) => {
      const id = await makePlan();
      const edit = () =>
        act(admins[0], 'edit_plan($1, steps => $2)', [id, stepsWith({ rollout_percentage: 77 })]);
      const [, edited] = await together(lead, apply, edit);
      await apply();
      expect(await stateOf(id)).toBe(edited === 'done' ? 'completed | applied | f 77' : APPLIED);
      return edited;
    });
    expect([...outcomes.keys()].toSorted()).toEqual(['ZF019', 'done']);
  },
);

test('a cancel at the moment of applying: one wins', LONG, async () => {
  const outcomes = await race(async (lead) => {
    const id = await makePlan();
    const [, cancelled] = await together(lead, apply, () =>
      act(admins[0], 'cancel_plan($1)', [id]),
    );
    await apply();
    expect(await stateOf(id)).toBe(cancelled === 'done' ? 'cancelled | cancelled | f 10' : APPLIED);
    return cancelled;
  });
  expect([...outcomes.keys()].toSorted()).toEqual(['ZF019', 'done']);
});

test(
  'a retry and an edit at the same instant: the plan has one open point, of the edit',
  LONG,
  async () => {
    const outcomes = await race(async (lead) => {
      const id = await makePlan();
      await owner.query(
        `update app_public.feature_flag_schedules set status = 'failed', attempts = 3, error_message = 'broken' where plan_id = $1`,
        [id],
      );
      await owner.query(`select app_private.end_point($1, 'failed', 'broken')`, [id]);
      const edit = () =>
        act(admins[1], 'edit_plan($1, steps => $2)', [id, stepsWith({ rollout_percentage: 77 })]);
      const [retried, edited] = await together(
        lead,
        () => act(admins[0], 'retry_plan($1)', [id]),
        edit,
      );
      expect([edited, ['done', 'ZF019'].includes(retried)]).toEqual(['done', true]);
      expect(await stateOf(id)).toBe('active | pending | f 10');
      await apply();
      expect(await stateOf(id)).toBe('completed | applied | f 77');
      return retried;
    });
    expect([...outcomes.keys()].toSorted()).toEqual(['ZF019', 'done']);
  },
);

test(
  'two stops and two resumes at the same instant: one of each wins, and decides',
  LONG,
  async () => {
    await race(async (lead) => {
      const id = await makePlan();
      const stop = (client: pg.Client) => () =>
        act(client, `stop_environment('production', 'race')`);
      const stops = await together(lead, stop(admins[0]), stop(admins[1]));
      expect(stops.toSorted()).toEqual(['ZF023', 'done']);
      await apply();
      expect(await stateOf(id)).toBe(HELD);
      const resume = (client: pg.Client, missed: string) => () =>
        act(client, `resume_environment('production', $1, 'race')`, [missed]);
      const resumed = await together(lead, resume(admins[0], 'apply'), resume(admins[1], 'skip'));
      expect(resumed.toSorted()).toEqual(['ZF023', 'done']);
      await apply();
      const state = await stateOf(id);
      expect(state).toBe(resumed[0] === 'done' ? APPLIED : 'completed | skipped | f 10');
      return state;
    });
  },
);

test('the trail has each of all that once, and finds the rows as it says', async () => {
  const counts = await value(
    owner,
    `select jsonb_object_agg(c.event_type, c.count) from (
       select e.event_type, count(*) from audit.events e
       where e.event_type like 'environment.%' or e.event_type like 'flag_plan.%' group by 1) as c`,
  );
  expect(counts).toMatchObject({
    'environment.stopped': 2 * RACES,
    'environment.resumed': 2 * RACES,
    'flag_plan.created': 5 * RACES,
    'flag_plan.updated': expect.any(Number) as number,
    'flag_plan.cancelled': expect.any(Number) as number,
  });
  expect(await value(owner, 'select count(*)::int from audit.dead_letters')).toBe(0);
  await withClient(database.rootUrl, async (client) => {
    const problems = await client.query(
      `select v.* from unnest('{environments,plans,feature_flags,feature_flag_schedules}'::text[]) as s (source)
       cross join lateral audit.verify_rows(s.source) as v where v.status <> 'ok'`,
    );
    expect(problems.rows).toEqual([]);
  });
});
