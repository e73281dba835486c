import type pg from 'pg';
import { expect, onTestFinished, test } from 'vitest';
import { blockersOf } from '../../src/postgres/blockers.ts';
import { makePool } from '../../src/postgres/pool.ts';
import { value } from '../support/actors.ts';
import { useDatabase, withClient } from '../support/database.ts';
import { insertFlag } from '../support/factory.ts';
import { makeTestLog } from '../support/log.ts';

const database = useDatabase();

test('behind several that wait for one row, the session that has it is named, and not the first that waits', async () => {
  const pool = makePool(database.ownerUrl, { name: 'halyard test', log: makeTestLog().log });
  onTestFinished(() => pool.end());
  const pidOf = (client: pg.ClientBase) => value<number>(client, 'select pg_backend_pid()');
  await withClient(database.ownerUrl, async (holder) => {
    const { id } = await insertFlag(holder);
    const lock = `select from app_public.feature_flags where id = '${id}' for no key update`;
    await holder.query('begin');
    await holder.query(lock);
    await withClient(database.ownerUrl, async (first) => {
      await withClient(database.ownerUrl, async (second) => {
        const pids = [await pidOf(first), await pidOf(second)] as const;
        const waiting: Promise<unknown>[] = [];
        for (const [client, pid] of [
          [first, pids[0]],
          [second, pids[1]],
        ] as const) {
          waiting.push(client.query(lock));
          const blocked = `select cardinality(pg_blocking_pids($1)) > 0`;
          await expect.poll(() => value(holder, blocked, [pid])).toBe(true);
        }
        for (const pid of pids)
          expect(await blockersOf(pool, pid)).toMatchObject([
            { pid: await pidOf(holder), user: 'halyard_owner' },
          ]);
        await holder.query('commit');
        await Promise.all(waiting);
      });
    });
  });
});
