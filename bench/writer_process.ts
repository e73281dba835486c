import { pino } from 'pino';
import { makePool } from '../src/db.ts';

/** Creates schedules at a steady rate, a transaction each, in a process of its own. */
const [, , url = '', perSecond = '100'] = process.argv;
const log = pino({ level: 'warn' }, pino.destination(2));
const pool = makePool(url, { name: 'halyard bench writer', log });
const { rows } = await pool.query<{ id: string }>(
  `insert into app_public.feature_flags (flag_key) values ('written') returning id`,
);
const begun = performance.now();
let written = 0;

function write(): void {
  const wanted = ((performance.now() - begun) * Number(perSecond)) / 1_000;
  for (; written < wanted; written++) {
    pool
      .query(
        `insert into app_public.feature_flag_schedules (flag_id, scheduled_at, updates)
         values ($1, now() + interval '1 day', '{"enabled": true}')`,
        [rows[0]?.id],
      )
      .catch((error: unknown) => log.error({ err: error }, 'a schedule could not be written'));
  }
}

const timer = setInterval(write, 5);
process.once('disconnect', () => {
  clearInterval(timer);
  void pool.end().then(() => process.exit());
});
process.send?.('ready');
