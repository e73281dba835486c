import type pg from 'pg';
import { makePool } from '../../src/postgres/pool.ts';
import { transactionAs } from '../../src/postgres/transaction.ts';
import type { Benchmark, Figure, Size } from '../benchmark.ts';
import type { BenchDatabase } from '../environment.ts';
import { inTurns, spreadOf, takeTurns, timed } from '../measure.ts';
import { makeFlags } from '../schedule_table.ts';
import { adminOf } from '../statements.ts';

const FLAGS: Record<Size, number> = { smoke: 10, usual: 200, full: 200 };
const PENDING: Record<Size, number> = { smoke: 1_000, usual: 100_000, full: 100_000 };
const ROUNDS: Record<Size, number> = { smoke: 1, usual: 7, full: 15 };
const TARGET_MS = { release: 100, stop: 50 };

/** An admin's request. */
type Ask = (text: string, values: readonly unknown[]) => Promise<unknown>;

const RELEASE = `
  select app_public.create_plan('Release', jsonb_build_array(jsonb_build_object('changes', (
    select jsonb_agg(jsonb_build_object(
      'flag_key', f.flag_key, 'environment', f.environment, 'updates', jsonb_build_object('rollout_percentage', $1::integer)))
    from app_public.feature_flags f where f.flag_key like 'plan-%'))))`;
const ONE_SHOTS = `
  insert into app_public.feature_flag_schedules (flag_id, scheduled_at, updates)
  select f.id, now() - interval '1 ms', jsonb_build_object('rollout_percentage', $1::integer)
  from app_public.feature_flags f where f.flag_key like 'plan-%'`;

/** Of flags in two environments, past the trigger that writes events of schedules: they aren't read. */
const FILL_PENDING = `
  begin;
  alter table app_public.feature_flag_schedules disable trigger _900_audit_insert;
  insert into app_public.feature_flag_schedules (flag_id, scheduled_at, updates)
  select f.id, now() + interval '1 hour' + random() * interval '90 days', '{"enabled": true}'
  from app_public.feature_flags f, generate_series(1, $pending / (select count(*)::integer from app_public.feature_flags)) as n;
  alter table app_public.feature_flag_schedules enable always trigger _900_audit_insert;
  commit`;

export const plans: Benchmark = {
  name: 'plans',
  description:
    'How long does it take to apply a release of many flags, and to stop and resume an environment with many pending schedules?',
  async run(environment, size) {
    const database = await environment.makeDatabase();
    const pool = makePool(database.authenticatorUrl, {
      name: 'halyard bench',
      log: environment.log,
    });
    const ask: Ask = (text, values) =>
      transactionAs(pool, adminOf(null), { requestId: 'bench' }, (client) =>
        client.query(text, [...values]),
      );
    try {
      await makeFlags(database, 'plan', FLAGS[size]);
      return [
        await measureRelease(database, ask, size),
        ...(await measureStop(database, ask, size)),
      ];
    } finally {
      await pool.end();
      await database.drop();
    }
  },
};

async function measureRelease(
  { root, worker }: BenchDatabase,
  ask: Ask,
  size: Size,
): Promise<Figure> {
  let round = 0;
  const apply = () =>
    timed(async () => {
      const { rows } = await worker.query<{ applied: number }>(
        'select applied from app_private.apply_due($1)',
        [FLAGS[size]],
      );
      if (rows[0]?.applied !== FLAGS[size]) throw new Error('Not all were applied.');
    });
  const { a, b } = await inTurns(
    ROUNDS[size],
    async () => {
      await ask(RELEASE, [++round % 101]);
      return apply();
    },
    async () => {
      await root.query(ONE_SHOTS, [++round % 101]);
      return apply();
    },
  );
  return toFigure(
    { what: `a release of ${FLAGS[size]} flags is applied`, mostMs: TARGET_MS.release },
    a,
    { what: 'as many schedules of their own', figures: b },
  );
}

/** The environment with all of the pending schedules, and one with none, in turns. */
async function measureStop({ root }: BenchDatabase, ask: Ask, size: Size): Promise<Figure[]> {
  await root.query(FILL_PENDING.replace('$pending', String(PENDING[size])));
  await vacuum(root);
  const stopAndResume = (name: string) => async () => {
    const reason = 'bench';
    const stopMs = await timed(() =>
      ask('select app_public.stop_environment($1, $2)', [name, reason]),
    );
    const resumeMs = await timed(() =>
      ask(`select app_public.resume_environment($1, 'apply', $2)`, [name, reason]),
    );
    return { stopMs, resumeMs };
  };
  const [all = [], none = []] = await takeTurns(
    ROUNDS[size],
    ['production', 'staging'].map(stopAndResume),
  );
  const count = PENDING[size].toLocaleString('en-US');
  return (['stopMs', 'resumeMs'] as const).map((part) =>
    toFigure(
      {
        what: `${part === 'stopMs' ? 'stop' : 'resume'} of an environment with ${count} pending schedules`,
        mostMs: TARGET_MS.stop,
      },
      all.map((figures) => figures[part]),
      { what: 'of one with none', figures: none.map((figures) => figures[part]) },
    ),
  );
}

const vacuum = (root: pg.Pool) =>
  root.query('vacuum analyze app_public.feature_flag_schedules, app_public.feature_flags');

function toFigure(
  { what, mostMs }: { what: string; mostMs: number },
  figures: readonly number[],
  baseline: { what: string; figures: readonly number[] },
): Figure {
  const value = spreadOf(figures);
  return {
    ...{ what, unit: 'ms', value },
    baseline: { what: baseline.what, value: spreadOf(baseline.figures) },
    target: { text: `≤ ${mostMs}`, met: value.median <= mostMs },
  };
}
