import { readFile, readdir } from 'node:fs/promises';
import { parseCrontab } from 'graphile-worker';
import { expect, onTestFinished, test } from 'vitest';
import { TASKS } from '../../src/jobs/jobs.ts';
import { makePool } from '../../src/postgres/pool.ts';
import { releaseOnce } from '../../src/worker/job_pool.ts';
import { useDatabase, withClient } from '../support/database.ts';
import { makeTestLog } from '../support/log.ts';
import { startTestWorker } from '../support/worker.ts';

const ROOT = new URL('../../', import.meta.url);
const database = useDatabase();

const read = (path: string) => readFile(new URL(path, ROOT), 'utf8');

async function list(folder: string): Promise<string[]> {
  const entries = await readdir(new URL(folder, ROOT), { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isFile()).map((e) => `${e.parentPath}/${e.name}`);
}

test('the folder of tasks holds the tasks and nothing else', async () => {
  const files = await readdir(new URL('tasks', ROOT));
  expect(files.toSorted()).toStrictEqual(TASKS.map((task) => `${task}.ts`));
});

test('the crontab names tasks only, and queues each under its own key and in no queue', async () => {
  const items = parseCrontab(await read('crontab'));
  expect(items.map(({ task }) => task).toSorted()).toStrictEqual([...TASKS]);
  for (const { task, options } of items) {
    expect(options.jobKey).toBe(task);
    // A dead worker would lock the queue for four hours.
    expect(options.queueName).toBeUndefined();
  }
});

test('what SQL and TypeScript queue is a task', async () => {
  const sources = [
    ...(await list('migrations/fixtures')),
    ...(await list('src')),
    ...(await list('tasks')),
  ];
  const texts = await Promise.all(sources.map((path) => readFile(path, 'utf8')));
  const queued = texts.flatMap((text) =>
    [...text.matchAll(/add_?jobs?\(\s*(?:\w+,\s*)?'(\w+)'/gi)].map((match) => match[1]),
  );
  expect(queued.length).toBeGreaterThan(0);
  expect([...TASKS]).toStrictEqual(expect.arrayContaining(queued));
});

test('each task runs, and refuses a payload that it would not heed', async () => {
  const { lines } = await startTestWorker(database);
  await withClient(database.workerUrl, async (client) => {
    for (const task of TASKS) {
      await client.query('select graphile_worker.add_job($1)', [task]);
      await client.query('select graphile_worker.add_job($1, $2, max_attempts => 1)', [
        task,
        JSON.stringify({ flag: 'wishlist-gallery' }),
      ]);
    }
    await expect
      .poll(
        async () => {
          const { rows } = await client.query<{ task: string; error: string | null }>(
            'select task_identifier as task, last_error as error from graphile_worker.jobs order by 1',
          );
          return rows;
        },
        { timeout: 15_000 },
      )
      .toStrictEqual(
        TASKS.map((task) => ({ task, error: expect.stringContaining(task) as string })),
      );
  });
  expect(lines.filter(({ level }) => level === 'error')).toStrictEqual([]);
});

test('a client that graphile-worker releases twice is released once', async () => {
  const { log } = makeTestLog();
  const pool = makePool(database.workerUrl, { name: 'halyard test', log });
  onTestFinished(() => pool.end());
  releaseOnce(pool);
  const release = await new Promise<() => void>((resolve, reject) => {
    pool.connect((error, _client, done) => {
      if (error === undefined) resolve(done);
      else reject(error);
    });
  });
  release();
  expect(release).not.toThrow();
  expect([pool.totalCount, pool.idleCount]).toEqual([1, 1]);
  expect((await pool.query('select 1')).rowCount).toBe(1);
});

test('a listener that asks a pool which has been ended may release what it never got', async () => {
  const pool = makePool(database.workerUrl, { name: 'halyard test', log: makeTestLog().log });
  releaseOnce(pool);
  await pool.end();
  const error = await new Promise((resolve) => {
    pool.connect((failure, _client, release) => {
      release();
      resolve(failure);
    });
  });
  expect(error).toMatchObject({ message: 'Cannot use a pool after calling end on the pool' });
});
