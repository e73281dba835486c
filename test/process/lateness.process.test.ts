import { expect, onTestFinished, test } from 'vitest';
import { spreadOf } from '../../bench/measure.ts';
import { useDatabase, withClient } from '../support/database.ts';
import { insertFlag, insertSchedule } from '../support/factory.ts';
import { startProcess } from '../support/processes.ts';
import { TEST_SECRET } from '../support/tokens.ts';
import { appliedEvents } from '../support/worker.ts';

/** How late a running product may apply half of its schedules, at most: a busy machine holds up one now and then. */
const LATEST_MS = 250;

const database = useDatabase();

/** API and worker in one process, as `npm start` has them. */
async function startHalyard(): Promise<void> {
  const halyard = startProcess(process.execPath, ['src/main.ts', 'start'], {
    env: {
      ...{ NODE_ENV: 'test', PORT: '0', METRICS_PORT: '0', JWT_SECRET: TEST_SECRET },
      DATABASE_URL: database.ownerUrl,
      AUTH_DATABASE_URL: database.authenticatorUrl,
      WORKER_DATABASE_URL: database.workerUrl,
    },
  });
  onTestFinished(async () => {
    await halyard.end('SIGKILL');
  });
  await halyard.waitFor(/Halyard is running/);
}

test('schedules are applied within 250 ms of their time, also while another flag is held locked', async () => {
  await startHalyard();
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
