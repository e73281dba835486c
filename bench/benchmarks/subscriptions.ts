import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { withConnection } from '../../src/postgres/connection.ts';
import { signToken } from '../../src/auth/token.ts';
import { startLoad } from '../load.ts';
import type { Heard, SubscriberOptions, SubscriberTask } from '../load/subscribers.ts';
import { percentile, spreadOf } from '../measure.ts';
import { BENCH_SECRET, startHalyard } from '../processes.ts';
import type { Benchmark, Size } from '../benchmark.ts';

const SUBSCRIBERS = 200;
const PER_SECOND = 4;
const COMMITS: Record<Size, number> = { smoke: 4, usual: 20, full: 200 };
const TARGET_MS = 100;

/** The clock of all processes on this machine, finer than Date.now(). */
const now = () => performance.timeOrigin + performance.now();

export const subscriptions: Benchmark = {
  name: 'subscriptions',
  description: `How long after a commit do ${SUBSCRIBERS} subscribers have it, at ${PER_SECOND} commits/s?`,
  async run(environment, size) {
    const database = await environment.makeDatabase();
    const api = await startHalyard('api', database.authenticatorUrl);
    const tokens = Array.from({ length: SUBSCRIBERS }, (_, i) => tokenOf(`user-${i}`));
    const options: SubscriberOptions = { url: api.url, tokens };
    const subscribers = await startLoad<SubscriberTask, Heard>('subscribers', options);
    const listener = await database.root.connect();
    const committed = new Map<string, number>();
    const alone: number[] = [];
    let heard: Heard;
    try {
      await listener.query('listen halyard_audit');
      await database.root.query(`insert into app_public.feature_flags (flag_key) values ('flag')`);
      await withConnection(database.authenticatorUrl, 'halyard bench', async (writer) => {
        await writer.query(BE_ADMIN);
        const create = async () => {
          const { rows } = await writer.query<{ id: string }>(CREATE);
          return rows[0]?.id ?? '';
        };
        while ((await subscribers.run({ ids: [] })).clients < SUBSCRIBERS) {
          await create();
          await delay(200);
        }
        const start = now();
        for (let i = 0; i < COMMITS[size]; i++) {
          await delay(Math.max(0, start + (1_000 * i) / PER_SECOND - now()));
          const told = once(listener, 'notification').then(async () => {
            await listener.query(READ);
            return now();
          });
          const id = await create();
          const at = now();
          committed.set(id, at);
          alone.push((await told) - at);
        }
      });
      heard = await subscribers.run({ ids: [...committed.keys()] });
    } finally {
      listener.release(true);
      await subscribers.stop();
      await api.stop();
      await database.drop();
    }
    const delays = [...committed].flatMap(([id, at]) => (heard.at[id] ?? []).map((ms) => ms - at));
    return [50, 99, 100].map((p) => {
      const value = spreadOf([percentile(delays, p)]);
      return {
        what: `commit to client, ${p === 100 ? 'the slowest' : `p${p}`} of ${delays.length.toLocaleString('en-US')}`,
        unit: 'ms',
        value,
        baseline: {
          what: 'one connection that listens and reads the newest event',
          value: spreadOf([percentile(alone, p)]),
        },
        ...(p === 99 && { target: { text: `≤ ${TARGET_MS}`, met: value.median <= TARGET_MS } }),
      };
    });
  },
};

const BE_ADMIN = `
  select
    set_config('role', 'halyard_admin', false), set_config('jwt.claims.role', 'admin', false),
    set_config('jwt.claims.user_id', 'alice', false)`;
const READ = 'select * from audit.events order by occurred_at desc limit 1';

const CREATE = {
  name: 'create',
  text: `
    select s.id
    from app_public.schedule_flag_change(
      'flag', 'production', now() + interval '10 years',  '{"enabled": true}') s`,
};

function tokenOf(userId: string): string {
  return signToken({
    ...{ secret: BENCH_SECRET, role: 'admin', userId, email: `${userId}@example.com` },
  });
}
