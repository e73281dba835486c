import type pg from 'pg';
import { makePool } from '../../src/postgres/pool.ts';
import { transactionAs } from '../../src/postgres/transaction.ts';
import type { Benchmark, Figure, Size } from '../benchmark.ts';
import type { BenchDatabase } from '../environment.ts';
import { inTurns, spreadOf, timed } from '../measure.ts';
import { adminOf, makeRecorder, type Statement } from '../statements.ts';

const FLAGS: Record<Size, number> = { smoke: 50, usual: 1_000, full: 1_000 };
const PENDING: Record<Size, number> = { smoke: 1_000, usual: 100_000, full: 100_000 };
/** Changes that each flag has had. */
const CHANGES: Record<Size, number> = { smoke: 4, usual: 50, full: 50 };
const ROUNDS: Record<Size, number> = { smoke: 1, usual: 7, full: 15 };
/** What is pending is for this many days. */
const DAYS = 90;

/** Past the trigger that writes events of schedules: they aren't read. */
const FILL_PENDING = `
  begin;
  alter table app_public.feature_flag_schedules disable trigger _900_audit_insert;
  insert into app_public.feature_flag_schedules (flag_id, scheduled_at, updates)
  select f.id, now() + interval '1 hour' + random() * interval '${DAYS} days', case n % 3
    when 0 then '{"enabled": true}' when 1 then '{"rollout_percentage": 20}' else '{"enabled": false, "rollout_percentage": 0}' end::jsonb
  from app_public.feature_flags f, generate_series(1, $pending / (select count(*)::integer from app_public.feature_flags)) as n;
  alter table app_public.feature_flag_schedules enable always trigger _900_audit_insert;
  commit`;

const asked = (text: string, ...values: unknown[]): Statement => ({ text, values });
const state = (at: string) => asked(`select * from app_public.flag_state_at('production', ${at})`);
const upcoming = (from: string) =>
  asked(
    `select * from app_public.upcoming_changes('production', ${from}, ${from} + interval '1 day', 10000)`,
  );
const schedules = (where: string) =>
  asked(`
    select f.flag_key, s.scheduled_at, s.updates
    from app_public.feature_flag_schedules s join app_public.feature_flags f on f.id = s.flag_id
    where s.status = 'pending' and f.environment = 'production' and ${where} order by s.scheduled_at, s.id`);
const ALL_FLAGS = asked(
  `select flag_key, enabled, rollout_percentage from app_public.feature_flags where environment = 'production' order by flag_key`,
);
const TWO_MONTHS = `now() - interval '30 days', now() + interval '30 days'`;
const PAGE = (fields: string) =>
  `{ featureFlags(first: 100, condition: { environment: "production" }) { nodes { flagKey enabled ${fields} } } }`;

interface Comparison {
  readonly what: string;
  readonly mostMs: number;
  readonly statement: Statement;
  readonly baseline: { readonly what: string; readonly statement: Statement };
}

async function fill({ root }: BenchDatabase, size: Size): Promise<void> {
  await root.query(
    `insert into app_public.feature_flags (flag_key) select 'flag-' || n from generate_series(1, $1::integer) as n`,
    [FLAGS[size]],
  );
  for (let n = 0; n < CHANGES[size]; n++)
    await root.query(
      'update app_public.feature_flags set enabled = not enabled, rollout_percentage = $1',
      [n],
    );
  await root.query(FILL_PENDING.replace('$pending', String(PENDING[size])));
  await root.query('vacuum analyze app_public.feature_flag_schedules, app_public.feature_flags');
  await root.query('vacuum analyze audit.events');
}

export const states: Benchmark = {
  name: 'states',
  description:
    'How long does the state of all flags take, of the past and far ahead, and what comes on a day?',
  async run(environment, size) {
    const database = await environment.makeDatabase();
    const pool = makePool(database.authenticatorUrl, {
      name: 'halyard bench',
      log: environment.log,
    });
    const recorder = await makeRecorder(database.authenticatorUrl, environment.log);
    try {
      await fill(database, size);
      const in45Days = `now() + interval '45 days'`;
      const comparisons: Comparison[] = [
        {
          what: 'flag_state_at, 45 days ahead',
          mostMs: 300,
          statement: state(in45Days),
          baseline: {
            what: 'the pending schedules until then',
            statement: schedules(`s.scheduled_at <= ${in45Days}`),
          },
        },
        {
          what: 'flag_state_at, now, from the trail',
          mostMs: 300,
          statement: state('clock_timestamp()'),
          baseline: { what: 'the flags’ rows', statement: ALL_FLAGS },
        },
        ...['now()', `(now() + interval '60 days')`].map((from) => ({
          what: `upcoming_changes of a day, from ${from}`,
          mostMs: 200,
          statement: upcoming(from),
          baseline: {
            what: 'the day’s pending schedules',
            statement: schedules(
              `s.scheduled_at >= ${from} and s.scheduled_at < ${from} + interval '1 day'`,
            ),
          },
        })),
        ...[
          `changes_per_day('production', ${TWO_MONTHS}, 'Europe/Zurich')`,
          `flag_changes('production', ${TWO_MONTHS})`,
          `schedules_between('production', ${TWO_MONTHS})`,
        ].map((call) => ({
          what: `${call.split('(', 1)[0] ?? ''} of two months`,
          mostMs: 300,
          statement: asked(`select * from app_public.${call}`),
          baseline: { what: 'the flags’ rows', statement: ALL_FLAGS },
        })),
        {
          what: '100 flags with nextSchedule and lastChange',
          mostMs: 50,
          statement: await recorder.statementOf(
            PAGE('nextSchedule { scheduledAt } lastChange { at by eventType }'),
            {},
          ),
          baseline: { what: '100 flags', statement: await recorder.statementOf(PAGE(''), {}) },
        },
      ];
      const figures: Figure[] = [];
      for (const comparison of comparisons) figures.push(await compare(pool, comparison, size));
      return figures;
    } finally {
      await recorder.close();
      await pool.end();
      await database.drop();
    }
  },
};

async function compare(
  pool: pg.Pool,
  { what, mostMs, statement, baseline }: Comparison,
  size: Size,
): Promise<Figure> {
  const claims = { ...adminOf(null), role: 'viewer' as const };
  const measure =
    ({ text, values }: Statement) =>
    () =>
      timed(() =>
        transactionAs(pool, claims, { requestId: 'bench' }, (client) =>
          client.query(text, [...values]),
        ),
      );
  const { a, b } = await inTurns(ROUNDS[size], measure(statement), measure(baseline.statement));
  const value = spreadOf(a);
  return {
    what: `${what}: ${FLAGS[size]} flags, ${PENDING[size].toLocaleString('en-US')} pending`,
    unit: 'ms',
    value,
    baseline: { what: baseline.what, value: spreadOf(b) },
    target: { text: `≤ ${mostMs}`, met: value.median <= mostMs },
  };
}
