import { signToken } from '../src/auth/token.ts';
import type { HttpOptions, HttpTask, Work } from './load/http.ts';
import type { SqlTask } from './load/sql.ts';
import { FLAGS, flagKey } from './load/work.ts';
import { startLoad } from './load.ts';
import type { Answered, Extent } from './load.ts';
import { spreadOf, takeTurns } from './measure.ts';
import type { Spread } from './measure.ts';
import { BENCH_SECRET, startHalyard } from './processes.ts';
import type { Figure, Benchmark, Size } from './benchmark.ts';
import type { BenchDatabase } from './environment.ts';

/** The number that has a target, and where the time of a request is split. */
const USUAL_CONNECTIONS = 16;
const CONNECTIONS: Record<Size, readonly number[]> = {
  smoke: [USUAL_CONNECTIONS],
  usual: [1, USUAL_CONNECTIONS, 64],
  full: [1, USUAL_CONNECTIONS, 64],
};
const ROUNDS: Record<Size, number> = { smoke: 1, usual: 2, full: 7 };
const EXTENT: Record<Size, Extent> = {
  smoke: { requests: 100 },
  usual: { seconds: 0.6 },
  full: { seconds: 5 },
};
const BASELINE = 'the SQL function called through pg by as many clients';
const SEED = 20_261_125;

/** An API to create schedules by. */
export interface Variant {
  readonly name: string;
  readonly description: string;
  readonly create: Work;
  /** What part of the SQL function's requests a second it should answer. */
  readonly target: number;
  /** Requests that do a part of what creating does, each more than the one before. */
  readonly steps: readonly { readonly work: Work; readonly what: string }[];
}

/** Some things that were measured in turns, each the same number of times. */
type Rounds = readonly (readonly Answered[])[];

/** Measures how fast schedules are created by this API, beside the SQL function alone. */
export function creatingBy(variant: Variant): Benchmark {
  return {
    name: variant.name,
    description: variant.description,
    async run(environment, size) {
      const database = await environment.makeDatabase();
      const schedules = await fill(database);
      const api = await startHalyard('api', database.authenticatorUrl);
      const token = signToken({
        ...{ secret: BENCH_SECRET, role: 'admin', userId: 'alice', email: 'alice@example.com' },
      });
      const options: HttpOptions = { url: api.url, token, schedules };
      const http = await startLoad<HttpTask, Answered>('http', options);
      const sql = await startLoad<SqlTask, Answered>('sql', {
        databaseUrl: database.authenticatorUrl,
      });
      let seed = SEED;
      const figures: Figure[] = [];
      try {
        for (const connections of CONNECTIONS[size]) {
          const common = (part: number) => ({
            connections,
            extent: takePart(EXTENT[size], part),
            seed: seed++,
          });
          const ask = (work: Work) => (part: number) => http.run({ work, ...common(part) });
          const steps = connections === USUAL_CONNECTIONS ? variant.steps : [];
          const rounds = await takeTurns(ROUNDS[size], [
            ask(variant.create),
            (part) => sql.run(common(part)),
            ...steps.map(({ work }) => ask(work)),
          ]);
          figures.push(...compare(variant, connections, rounds));
          figures.push(...shares(variant, rounds));
        }
      } finally {
        await sql.stop();
        await http.stop();
        await api.stop();
        await database.drop();
      }
      return figures;
    },
  };
}

function takePart(extent: Extent, part: number): Extent {
  return 'seconds' in extent ? { seconds: extent.seconds * part } : extent;
}

/** The flags, and a schedule for each, to be asked for. */
async function fill({ root }: BenchDatabase): Promise<HttpOptions['schedules']> {
  const keys = Array.from({ length: FLAGS }, (_, i) => flagKey(i + 1));
  await root.query(
    'insert into app_public.feature_flags (flag_key) select unnest($1::text[]) as flag_key',
    [keys],
  );
  const { rows } = await root.query<{ id: string; flagKey: string }>(`
    with made as (
      insert into app_public.feature_flag_schedules (flag_id, scheduled_at, updates)
      select f.id, now() + interval '10 years', '{"enabled": true}' from app_public.feature_flags f
      returning id, flag_id
    )
    select made.id, f.flag_key as "flagKey" from made join app_public.feature_flags f on f.id = made.flag_id`);
  return rows;
}

function compare(
  variant: Variant,
  connections: number,
  [created = [], called = []]: Rounds,
): Figure[] {
  const at = `${connections} ${connections === 1 ? 'connection' : 'connections'}`;
  const figure = (what: string, unit: string, of: (answered: Answered) => number) => ({
    what: `${at}, ${what}`,
    unit,
    value: spreadOf(created.map(of)),
    baseline: { what: BASELINE, value: spreadOf(called.map(of)) },
  });
  const rate = figure('requests answered', '/s', ({ perSecond }) => perSecond);
  const met = rate.value.median >= variant.target * rate.baseline.value.median;
  return [
    {
      ...rate,
      ...(connections === USUAL_CONNECTIONS && {
        target: { text: `≥ ${variant.target} of the baseline`, met },
      }),
    },
    figure('p50', 'ms', ({ p50 }) => p50),
    figure('p99', 'ms', ({ p99 }) => p99),
  ];
}

/** What part of the machine's time for one request each step takes, while it has no more to give. */
function shares(variant: Variant, [created = [], called = [], ...steps]: Rounds): Figure[] {
  if (steps.length === 0) return [];
  const cost = (rounds: readonly Answered[]): Spread =>
    spreadOf(rounds.map(({ perSecond }) => 1_000 / perSecond));
  const whole = { what: 'the whole request', value: cost(created) };
  const parts = [
    ...variant.steps.map(({ what }, i) => ({ what, value: cost(steps[i] ?? []) })),
    { what: 'the SQL function alone', value: cost(called) },
  ];
  return parts.map(({ what, value }) => ({
    what: `of one request at ${USUAL_CONNECTIONS} connections: ${what}`,
    unit: 'ms',
    value,
    baseline: whole,
  }));
}
