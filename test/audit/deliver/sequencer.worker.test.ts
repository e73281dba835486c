import type pg from 'pg';
import { beforeEach, expect, onTestFinished, test } from 'vitest';
import { makeNumbering } from '../../../src/audit/delivery/sequencer.ts';
import type { Found, Numbered } from '../../../src/audit/delivery/sequencer.ts';
import type { Query } from '../../../src/audit/delivery/outbox.ts';
import { makePool } from '../../../src/postgres/pool.ts';
import { sleep } from '../../../src/lib/wait.ts';
import { withClient } from '../../support/database.ts';
import type { TestDatabase } from '../../support/database.ts';
import { insertFlag } from '../../support/factory.ts';
import { makeTestLog } from '../../support/log.ts';
import { insertDue, useFreshDatabase } from '../../support/worker.ts';

const never = new AbortController().signal;

let database: TestDatabase;
let pool: pg.Pool;
/** The queue ids behind which was looked. */
let looks: number[];
/** How long a look takes longer than it does. */
let delayMs: number;

beforeEach(async () => {
  database = await useFreshDatabase();
  pool = makePool(database.workerUrl, { name: 'halyard test', log: makeTestLog().log });
  onTestFinished(() => pool.end());
  looks = [];
  delayMs = 0;
});

const query: Query = async <R extends pg.QueryResultRow>(
  text: string,
  values: readonly unknown[],
) => {
  looks.push(Number(values[1]));
  await sleep(delayMs, never);
  return (await pool.query<R>(text, [...values])).rows;
};

async function run(numbering: ReturnType<typeof makeNumbering>): Promise<Numbered> {
  looks.length = 0;
  numbering.begin();
  let found: Found;
  do found = await numbering.next(query);
  while (found.numbered === 'more');
  return found.numbered;
}

async function numberedCount(): Promise<number> {
  return withClient(database.ownerUrl, async (client) => {
    const { rows } = await client.query<{ count: number }>(
      'select count(*)::int as count from audit.ledger',
    );
    return rows[0]?.count ?? Number.NaN;
  });
}

test('a run goes on from where it has got, and looks from the start at its end', async () => {
  await withClient(database.ownerUrl, (client) =>
    insertDue(client, { count: 1_250, dueIn: '1 day' }),
  );
  expect(await run(makeNumbering(Infinity))).toBe('all');
  expect(looks).toStrictEqual([0, 1_000, 2_000, 0]);
  expect(await numberedCount()).toBe(2_500);
});

test('what is committed late, under an id that was passed, is numbered in the same run', async () => {
  const numbering = makeNumbering(Infinity);
  await withClient(database.ownerUrl, async (late) => {
    await late.query('begin');
    await insertFlag(late);
    await withClient(database.ownerUrl, (client) =>
      insertDue(client, { count: 600, dueIn: '1 day' }),
    );
    numbering.begin();
    expect(await numbering.next(query)).toMatchObject({ numbered: 'more' });
    await late.query('commit');
  });
  while ((await numbering.next(query)).numbered === 'more');
  expect(await numberedCount()).toBe(1_201);
});

test('looks at the whole queue that take long are taken seldom, and made up for', async () => {
  const numbering = makeNumbering();
  await withClient(database.ownerUrl, (client) => insertDue(client, { count: 2, dueIn: '1 day' }));
  delayMs = 200;
  expect(await run(numbering)).toBe('all');
  delayMs = 0;
  await withClient(database.ownerUrl, (client) => insertDue(client, { count: 2, dueIn: '1 day' }));
  expect(await run(numbering)).toBe('skimmed');
  expect(looks).toStrictEqual([4]);
  expect(await numberedCount()).toBe(8);
  await expect.poll(() => run(numbering), { timeout: 5_000 }).toBe('all');
  expect(looks.at(-1)).toBe(0);
});

test('while another sequencer is at work nothing is taken for seen', async () => {
  const numbering = makeNumbering(Infinity);
  await withClient(database.ownerUrl, (client) =>
    insertDue(client, { count: 600, dueIn: '1 day' }),
  );
  await withClient(database.workerUrl, async (other) => {
    await other.query('begin; select from app_private.seal_batch(1, 0)');
    expect(await run(numbering)).toBe('busy');
    await other.query('rollback');
    expect(await numbering.next(query)).toMatchObject({ numbered: 'more' });
    await other.query('begin; select from app_private.seal_batch(1, 0)');
    expect(await numbering.next(query)).toStrictEqual({ numbered: 'busy', events: [] });
    await other.query('rollback');
  });
  expect(await run(numbering)).toBe('all');
  expect(await numberedCount()).toBe(1_200);
});

test('what came late does not make a run go back', async () => {
  const numbering = makeNumbering(500);
  const insert = (count: number) =>
    withClient(database.ownerUrl, (client) => insertDue(client, { count, dueIn: '1 day' }));
  await withClient(database.ownerUrl, async (late) => {
    await late.query('begin');
    await insertFlag(late);
    await insert(5);
    expect(await run(numbering)).toBe('all');
    await late.query('commit');
  });
  // This look takes long, and only what came late.
  delayMs = 600;
  expect(await run(numbering)).toBe('all');
  delayMs = 0;
  await insert(1);
  expect(await run(numbering)).toBe('skimmed');
  expect(looks).toStrictEqual([11]);
  expect(await numberedCount()).toBe(13);
});
