import { readFile } from 'node:fs/promises';
import pg from 'pg';
import { claimsFromPayload } from '../../src/auth/claims.ts';
import { makePool } from '../../src/postgres/pool.ts';
import { pgSettings } from '../../src/postgres/request_settings.ts';
import { queryAs } from '../../src/postgres/transaction.ts';
import { spreadOf, takeTurns } from '../measure.ts';
import type { Figure, Benchmark, Size } from '../benchmark.ts';
import { makeFlags } from '../schedule_table.ts';

const SECONDS: Record<Size, number> = { smoke: 0.3, usual: 1.5, full: 5 };
const ROUNDS: Record<Size, number> = { smoke: 1, usual: 4, full: 8 };
const CONNECTIONS = 16;

/** Runs one statement as an admin, in a transaction of its own with the settings of a request. */
type Run = (values: readonly unknown[]) => Promise<unknown>;

interface Work {
  readonly what: string;
  readonly name: string;
  readonly text: string;
  readonly values: (n: number) => readonly unknown[];
  /** What part of the baseline's processor time it may take. */
  readonly target?: number;
}

const WORKS: readonly Work[] = [
  {
    what: 'a flag is read',
    target: 0.9,
    name: 'bench_get',
    text: `select * from app_public.feature_flags where flag_key = $1 and environment = 'production'`,
    values: (n) => [`pipeline-${1 + (n % 300)}`],
  },
  {
    what: 'a schedule is created',
    name: 'bench_create',
    text: `select * from app_public.schedule_flag_change($1, 'production', now() + interval '1 year', '{"enabled": true}')`,
    values: (n) => [`pipeline-${1 + (n % 300)}`],
  },
];

/** Its processor time in seconds: this process's, and that of PostgreSQL's backends of these connections. */
async function processorTime(pids: readonly number[]): Promise<number> {
  const { user, system } = process.cpuUsage();
  let seconds = (user + system) / 1e6;
  for (const pid of pids) {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    seconds += (Number(fields[11] ?? 0) + Number(fields[12] ?? 0)) / 100;
  }
  return seconds;
}

/** Processor time for each run in microseconds, and runs a second. */
async function measure(
  pool: pg.Pool,
  run: Run,
  work: Work,
  seconds: number,
): Promise<{ us: number; perSecond: number }> {
  const clients = await Promise.all(Array.from({ length: CONNECTIONS }, () => pool.connect()));
  const pids = clients.map((client) => (client as unknown as { processID: number }).processID);
  for (const client of clients) client.release();
  let count = 0;
  const before = await processorTime(pids);
  const start = performance.now();
  const end = start + 1_000 * seconds;
  const lane = async () => {
    while (performance.now() < end) await run(work.values(count++));
  };
  await Promise.all(Array.from({ length: CONNECTIONS }, lane));
  const us = (1e6 * ((await processorTime(pids)) - before)) / count;
  return { us, perSecond: (1_000 * count) / (performance.now() - start) };
}

function median(rounds: readonly { us: number }[]): number {
  return spreadOf(rounds.map(({ us }) => us)).median;
}

/** pg's own pipelining: each query has a Sync of its own, so that the transaction must be spelled out. */
function pgRun(pool: pg.Pool, work: Work): Run {
  const claims = claimsFromPayload({ role: 'admin', sub: 'alice', email: 'alice@example.com' });
  const settings = pgSettings(claims, { requestId: 'bench' });
  const names = Object.keys(settings);
  const set = `select ${names.map((name, i) => `set_config('${name}', $${i + 1}, true)`).join(', ')}`;
  return async (values) => {
    const client = await pool.connect();
    try {
      const [, , result] = await Promise.all([
        client.query({ name: 'begin', text: 'begin' }),
        client.query({ name: 'settings', text: set, values: Object.values(settings) }),
        client.query({ name: work.name, text: work.text, values: [...values] }),
        client.query({ name: 'commit', text: 'commit' }),
      ]);
      return result;
    } finally {
      client.release();
    }
  };
}

function ownRun(pool: pg.Pool, work: Work): Run {
  const claims = claimsFromPayload({ role: 'admin', sub: 'alice', email: 'alice@example.com' });
  const settings = pgSettings(claims, { requestId: 'bench' });
  return (values) => queryAs(pool, settings, { name: work.name, text: work.text, values });
}

export const pipeline: Benchmark = {
  name: 'pipeline',
  description: 'Is a request’s transaction cheaper by our own pipelining than by pg’s?',
  async run(environment, size) {
    const database = await environment.makeDatabase();
    const own = makePool(database.authenticatorUrl, {
      name: 'halyard bench',
      max: CONNECTIONS,
      log: environment.log,
    });
    const pgs = new pg.Pool({
      connectionString: database.authenticatorUrl,
      application_name: 'halyard bench',
      max: CONNECTIONS,
      pipeline: true,
    });
    // Its end doesn't wait for its sessions', and dropping the database may cut one off.
    pgs.on('error', (error) => environment.log.debug({ err: error }, 'an idle session was lost'));
    try {
      await makeFlags(database, 'pipeline', 300);
      const figures: Figure[] = [];
      for (const work of WORKS) {
        const [ours = [], theirs = []] = await takeTurns(ROUNDS[size], [
          (part) => measure(own, ownRun(own, work), work, SECONDS[size] * part),
          (part) => measure(pgs, pgRun(pgs, work), work, SECONDS[size] * part),
        ]);
        const baseline = 'pg with pipeline: true, begin and commit spelled out';
        figures.push(
          {
            what: `${work.what}, ${CONNECTIONS} connections`,
            unit: '/s',
            value: spreadOf(ours.map(({ perSecond }) => perSecond)),
            baseline: { what: baseline, value: spreadOf(theirs.map((t) => t.perSecond)) },
          },
          {
            what: `${work.what}, processor time of client and server`,
            unit: 'µs',
            value: spreadOf(ours.map(({ us }) => us)),
            baseline: { what: baseline, value: spreadOf(theirs.map((t) => t.us)) },
            ...(work.target === undefined
              ? {}
              : {
                  target: {
                    text: `≤ ${work.target}`,
                    met: median(ours) <= work.target * median(theirs),
                  },
                }),
          },
        );
      }
      return figures;
    } finally {
      await Promise.all([own.end(), pgs.end()]);
      await database.drop();
    }
  },
};
