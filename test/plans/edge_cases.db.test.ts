import pg from 'pg';
import { expect, test } from 'vitest';
import { value, withActors } from '../support/actors.ts';
import { cloneDatabase, useDatabase, withClient } from '../support/database.ts';
import { GUARDS } from '../support/edge_cases/guards.ts';
import { RELEASES } from '../support/edge_cases/releases.ts';
import { REVERTS } from '../support/edge_cases/reverts.ts';
import { STOPS } from '../support/edge_cases/stops.ts';
import { insertFlag, insertSchedule } from '../support/factory.ts';
import { requestPlan } from '../support/plan_requests.ts';
import { changeOf, statusesOf } from '../support/plans.ts';

const database = useDatabase();

test.each([...GUARDS, ...RELEASES, ...STOPS, ...REVERTS])('%s: %s', async (_id, _what, run) => {
  await withActors(database, async (client) => {
    const off = { enabled: false, rollout_percentage: 10 };
    const flag = (flag_key: string) => insertFlag(client, { flag_key, ...off });
    const flags = [await flag('a'), await flag('b'), await flag('c')] as const;
    const staging = await insertFlag(client, { flag_key: 'a', environment: 'staging', ...off });
    await run({ client, flags, staging });
    expect(await value(client, 'select count(*)::int from audit.dead_letters')).toBe(0);
  });
});

test('D2: a release, one flag of which another session holds, waits whole; others don’t wait', async () => {
  const database = await cloneDatabase();
  const holder = new pg.Client({ connectionString: database.ownerUrl });
  await holder.connect();
  try {
    await withClient(database.rootUrl, async (client) => {
      const flags = [await insertFlag(client), await insertFlag(client)] as const;
      const alone = await insertFlag(client);
      const plan = await requestPlan(
        client,
        flags.map((flag) => changeOf(flag)),
        { dueIn: null },
      );
      await insertSchedule(client, alone.id, { dueIn: '-1 ms' });
      await holder.query('begin');
      await holder.query('select from app_public.feature_flags where id = $1 for update', [
        flags[1].id,
      ]);
      const apply = () =>
        withClient(database.workerUrl, (worker) =>
          value<number>(worker, 'select applied from app_private.apply_due()'),
        );
      expect(await apply()).toBe(1);
      expect(await statusesOf(client, plan)).toEqual(['pending', 'pending']);
      await holder.query('rollback');
      expect(await apply()).toBe(2);
      expect(await statusesOf(client, plan)).toEqual(['applied', 'applied']);
    });
  } finally {
    await holder.end();
    await database.drop();
  }
});
