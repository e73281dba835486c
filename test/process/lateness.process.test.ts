import { expect, test } from 'vitest';
import { spreadOf } from '../../bench/measure.ts';
import { useDatabase, withClient } from '../support/database.ts';
import { insertFlag, insertSchedule } from '../support/factory.ts';
import { appliedEvents, startTestWorker } from '../support/worker.ts';

/** How late half of the schedules may be applied, at most: the same as of a running product that nothing holds up. */
const LATEST_MS = 250;

const database = useDatabase();

test('a flag that somebody holds locked makes no other flag’s schedule late', async () => {
  await startTestWorker(database);
  await withClient(database.ownerUrl, async (client) => {
    const held = await insertFlag(client);
    await withClient(database.ownerUrl, async (holder) => {
      await holder.query('begin');
      await holder.query('select from app_public.feature_flags where id = $1 for no key update', [
        held.id,
      ]);
      await insertSchedule(client, held.id, { dueIn: '-1 second' });

      // From 2 s on, when the worker asks for the one that is held only once a second.
      const others: string[] = [];
      for (let n = 0; n < 8; n++) {
        const flag = await insertFlag(client);
        const { id } = await insertSchedule(client, flag.id, { dueIn: `${2_000 + 270 * n} ms` });
        others.push(id);
      }
      await expect
        .poll(async () => (await appliedEvents(client)).map((event) => event.schedule_id).sort(), {
          timeout: 15_000,
        })
        .toEqual(others.toSorted());
      const lateness = (await appliedEvents(client)).map(({ metadata }) =>
        Number(metadata.latenessMs),
      );
      expect(spreadOf(lateness).median).toBeLessThanOrEqual(LATEST_MS);
      await holder.query('rollback');
    });
    await expect
      .poll(async () => (await appliedEvents(client)).length, { timeout: 10_000 })
      .toBe(9);
  });
});
