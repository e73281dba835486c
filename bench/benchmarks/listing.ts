import { LIST } from '../../src/schedules/routes.ts';
import { makeEventReader } from '../../src/audit/export/export.ts';
import type { Claims } from '../../src/auth/claims.ts';
import { makePool } from '../../src/postgres/pool.ts';
import { transactionAs } from '../../src/postgres/transaction.ts';
import { fillHistory } from '../history.ts';
import type { History, Key } from '../history.ts';
import { inTurns, percentile, spreadOf, timed } from '../measure.ts';
import type { Figure, Benchmark, Size } from '../benchmark.ts';
import { makeRandom } from '../../test/support/chaos/random.ts';
import type { Random } from '../../test/support/chaos/random.ts';
import type { Environment } from '../environment.ts';
import { adminOf, makeRecorder } from '../statements.ts';
import type { Recorder, Statement } from '../statements.ts';

const ROWS: Record<Size, readonly [number, number]> = {
  smoke: [2_000, 4_000],
  usual: [10_000, 2_000_000],
  full: [10_000, 2_000_000],
};
const KEYS: Record<Size, number> = { smoke: 4, usual: 30, full: 200 };
const ROUNDS: Record<Size, number> = { smoke: 1, usual: 3, full: 5 };
const SEED = 7;
const TARGET = 1.5;
const PAGE = 50;
/** As often as it has of the rows. */
const HOT = 0.2;
const WEEK_MS = 7 * 24 * 3_600_000;
const TYPES = ['flag_schedule.created', 'flag_schedule.cancelled', 'feature_flag.updated'];
const EVENTS = `query ($condition: AuditEventCondition!) {
  auditEvents(first: ${PAGE}, condition: $condition) {
    nodes { id occurredAt eventType environment flagKey actorKind adminUserId metadata }
    pageInfo { hasNextPage endCursor }
  }
}`;

/** One of the reads, for a random key of a history. */
interface Read {
  readonly claims: Claims;
  readonly statement: Statement | 'export';
  readonly key: Key;
}
type MakeRead = (history: History, random: Random, recorder: Recorder) => Promise<Read>;

function pickKey({ flags, hotFlag }: History, random: Random): Key {
  return random.next() < HOT
    ? hotFlag
    : (flags[Math.floor(random.next() * flags.length)] ?? hotFlag);
}

/** Every other one by an admin who is limited to the flag's environment. */
function reader(key: Key, random: Random): Claims {
  return adminOf(random.next() < 0.5 ? null : [key.environment]);
}

/** Of an admin; the first ones more often. */
function pickAdmin({ admins }: History, random: Random): string {
  return admins[Math.floor(random.next() ** 2 * admins.length)] ?? '';
}

const search =
  (conditionOf: (key: Key, history: History, random: Random) => object): MakeRead =>
  async (history, random, recorder) => {
    const key = pickKey(history, random);
    const statement = await recorder.statementOf(EVENTS, {
      condition: conditionOf(key, history, random),
    });
    return { claims: reader(key, random), statement, key };
  };

const sql =
  (role: 'admin' | 'auditor', text: string, valuesOf: (key: Key, who: string) => unknown[]) =>
  (history: History, random: Random): Promise<Read> => {
    const key = pickKey(history, random);
    const values = valuesOf(key, pickAdmin(history, random));
    return Promise.resolve({
      claims: { ...reader(key, random), role },
      statement: { text, values },
      key,
    });
  };

const READS: Record<string, MakeRead> = {
  'REST: a flag’s schedules': sql('admin', LIST, ({ flagKey, environment }) => [
    ...[flagKey, environment, null, null, null, PAGE + 1],
  ]),
  'GraphQL: events of a flag': search(({ flagKey, environment }) => ({ flagKey, environment })),
  'GraphQL: events by an admin': search((_key, history, random) => ({
    adminUserId: pickAdmin(history, random),
  })),
  'GraphQL: events of a type': search((_key, _history, random) => ({
    eventType: TYPES[Math.floor(random.next() * TYPES.length)],
  })),
  'GraphQL: events of a week': search((_key, { from, to }, random) => {
    const at = from.getTime() + random.next() * (to.getTime() - from.getTime() - WEEK_MS);
    const [occurredFrom, occurredBefore] = [at, at + WEEK_MS].map((ms) =>
      new Date(ms).toISOString(),
    );
    return { occurredFrom, occurredBefore };
  }),
  'SQL: audit.flag_events': sql(
    'auditor',
    `select * from audit.flag_events where environment = $1 and flag_key = $2 order by occurred_at desc limit ${PAGE}`,
    ({ flagKey, environment }) => [environment, flagKey],
  ),
  'SQL: audit.actor_events': sql(
    'auditor',
    `select * from audit.actor_events where admin_user_id = $1 order by occurred_at desc limit ${PAGE}`,
    (_key, who) => [who],
  ),
  'REST: a page of a flag’s trail': (history, random) => {
    const key = pickKey(history, random);
    return Promise.resolve({ claims: reader(key, random), statement: 'export', key });
  },
};

export const listing: Benchmark = {
  name: 'listing',
  description: 'Are lists and searches as fast among two million rows as among ten thousand?',
  async run(environment, size) {
    const small = await openHistory(environment, ROWS[size][0]);
    try {
      const large = await openHistory(environment, ROWS[size][1]);
      try {
        return await compare(small, large, size);
      } finally {
        await large.close();
      }
    } finally {
      await small.close();
    }
  },
};

type Place = Awaited<ReturnType<typeof openHistory>>;

async function openHistory(environment: Environment, rows: number) {
  const database = await environment.makeDatabase();
  const recorder = await makeRecorder(database.authenticatorUrl, environment.log);
  const history = await fillHistory(database.root, rows);
  const name = 'halyard bench';
  const pool = makePool(database.authenticatorUrl, { name, log: environment.log });

  async function read({ claims, statement, key }: Read): Promise<void> {
    const transaction = <T>(work: Parameters<typeof transactionAs<T>>[3]) =>
      transactionAs(pool, claims, { requestId: 'bench' }, work);
    if (statement !== 'export') {
      await transaction((client) => client.query(statement.text, [...statement.values]));
      return;
    }
    const query = { flag: key.flagKey, environment: key.environment, limit: PAGE + 1 };
    let found = 0;
    const reader = makeEventReader(transaction, query, rows);
    for (let page = await reader.next(); page !== undefined; page = await reader.next())
      found += page.rows.length;
    if (found === 0) throw new Error(`The trail has no event of ${key.flagKey}.`);
  }

  return {
    rows,
    history,
    recorder,
    read,
    async close() {
      await recorder.close();
      await pool.end();
      await database.drop();
    },
  };
}

async function compare(small: Place, large: Place, size: Size): Promise<Figure[]> {
  const figures: Figure[] = [];
  for (const [what, makeRead] of Object.entries(READS)) {
    const measure = async (place: Place) => {
      const reads = await makeReads(place, makeRead, size);
      return async () => {
        const times: number[] = [];
        for (const one of reads) times.push(await timed(() => place.read(one)));
        return percentile(times, 95);
      };
    };
    const rounds = await inTurns(ROUNDS[size], await measure(large), await measure(small));
    const [value, baseline] = [spreadOf(rounds.a), spreadOf(rounds.b)];
    const ratio = value.median / baseline.median;
    figures.push({
      what: `${what}, p95, ${large.rows.toLocaleString('en-US')} rows`,
      unit: 'ms',
      value,
      baseline: { what: `${small.rows.toLocaleString('en-US')} rows`, value: baseline },
      target: { text: `≤ ${TARGET} ×`, met: ratio <= TARGET },
    });
  }
  return figures;
}

/** The keys of a round: the same in each, so that what is read is in memory from the first one on. */
async function makeReads(
  { history, recorder }: Place,
  makeRead: MakeRead,
  size: Size,
): Promise<readonly Read[]> {
  const random = makeRandom(SEED);
  const reads: Read[] = [];
  while (reads.length < KEYS[size]) reads.push(await makeRead(history, random, recorder));
  return reads;
}
