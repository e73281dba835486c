import { pino } from 'pino';
import { makePool } from '../../src/postgres/pool.ts';
import { serve } from './serve.ts';

/** Creates schedules at a steady rate, a transaction each, none of which comes due. */
export interface WriterOptions {
  /** Of who may write tables. */
  readonly databaseUrl: string;
}

export interface WriterTask {
  readonly perSecond: number;
  readonly seconds: number;
}

/** How often it computes how many are due. */
const EVERY_MS = 5;

serve(async ({ databaseUrl }: WriterOptions) => {
  const log = pino({ level: 'warn' }, pino.destination(2));
  const pool = makePool(databaseUrl, { name: 'halyard bench writer', log });
  const { rows } = await pool.query<{ id: string }>(
    `insert into app_public.feature_flags (flag_key) values ('written') returning id`,
  );
  const write = () =>
    pool.query(
      `insert into app_public.feature_flag_schedules (flag_id, scheduled_at, updates)
       values ($1, now() + interval '1 day', '{"enabled": true}')`,
      [rows[0]?.id],
    );

  /** Answers with how many it has written. */
  return async ({ perSecond, seconds }: WriterTask): Promise<number> => {
    const startedAt = performance.now();
    const writes: Promise<unknown>[] = [];
    while (writes.length < perSecond * seconds) {
      const wanted = ((performance.now() - startedAt) * perSecond) / 1_000;
      while (writes.length < Math.min(wanted, perSecond * seconds)) writes.push(write());
      await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
    }
    await Promise.all(writes);
    return writes.length;
  };
});
