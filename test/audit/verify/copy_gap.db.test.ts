import type pg from 'pg';
import { expect, onTestFinished, test } from 'vitest';
import { checkAnchors } from '../../../src/audit/verification/anchors.ts';
import { makePool } from '../../../src/postgres/pool.ts';
import { confirmNext } from '../../support/confirm.ts';
import { withClient, type TestDatabase } from '../../support/database.ts';
import { makeTestLog } from '../../support/log.ts';
import { sealAll, sealFlags } from '../../support/sealed_trail.ts';
import { useFreshDatabase } from '../../support/worker.ts';

/** Delivers what lies after the cursor, as the worker does. */
async function deliver(worker: pg.ClientBase): Promise<string[]> {
  const { rows } = await worker.query<{ message: string }>(
    `select message from app_private.undelivered_audit_events('stdout', 1000)`,
  );
  await confirmNext(worker, 'stdout', 1_000);
  return rows.map(({ message }) => message);
}

test('a cursor that was moved past an event leaves an event and a gap in the copy, which is named', async () => {
  const database = await useFreshDatabase();
  const pool = makePool(database.rootUrl, { name: 'halyard test', log: makeTestLog().log });
  onTestFinished(() => pool.end());
  const copy: string[] = [];
  await withClient(database.rootUrl, async (client) => {
    await withClient(database.workerUrl, async (worker) => {
      await sealFlags(client, 3);
      copy.push(...(await deliver(worker)));
      await sealFlags(client, 3);
      await client.query(`update audit.cursors set last_seq = last_seq + 2`);
      copy.push(...(await deliver(worker)));
      await sealAll(client);
      copy.push(...(await deliver(worker)));
    });
  });
  expect((await checkAnchors(pool, copy)).problems).toMatchObject([
    { status: 'copy_incomplete', seqs: [4, 5] },
  ]);
  // The copy itself tells why.
  const jump = '"metadata": {"after": 5, "before": 3, "destination": "stdout"}';
  expect(copy.filter((message) => message.includes(jump))).toHaveLength(1);
});

test('a cursor that was moved back makes repeats, and no gap', async () => {
  const database = await useFreshDatabase();
  const pool = makePool(database.rootUrl, { name: 'halyard test', log: makeTestLog().log });
  onTestFinished(() => pool.end());
  const copy: string[] = [];
  await withClient(database.rootUrl, async (client) => {
    await withClient(database.workerUrl, async (worker) => {
      await sealFlags(client, 5);
      copy.push(...(await deliver(worker)));
      await client.query(`delete from audit.cursors`);
      copy.push(...(await deliver(worker)));
    });
  });
  expect(await checkAnchors(pool, copy)).toMatchObject({
    problems: [],
    copies: 10,
    coverage: { first: 1, last: 5, missing: 0 },
  });
});

test('events and seals of another trail in the same place are no problem of this one, and a broken seal is', async () => {
  const [own, other] = [await useFreshDatabase(), await useFreshDatabase()];
  await withClient(other.rootUrl, (client) =>
    client.query(`select app_private.accept_restore('another database', null, true)`),
  );
  const deliverAll = (database: TestDatabase, flags: number) =>
    withClient(database.rootUrl, async (client) => {
      await sealFlags(client, flags, 3);
      return withClient(database.workerUrl, deliver);
    });
  const [mine, theirs] = [await deliverAll(own, 4), await deliverAll(other, 9)];
  const pool = makePool(own.rootUrl, { name: 'halyard test', log: makeTestLog().log });
  onTestFinished(() => pool.end());
  expect(await checkAnchors(pool, [...theirs, ...mine])).toMatchObject({
    problems: [],
    coverage: { first: 1, last: 4, missing: 0 },
  });
  // Without a seal of theirs they might as well be this trail's own.
  const unsealed = theirs.filter((message) => !message.includes('"lastSeq": 9,'));
  expect((await checkAnchors(pool, [...mine, ...unsealed])).problems).toMatchObject([
    { status: 'tail_cut', seqs: [7, 8, 9] },
  ]);
  const broken = mine.map((message) => message.replace(/"root": "[0-9a-f]+"/, '"root": "zz"'));
  expect((await checkAnchors(pool, [...mine, ...broken])).problems).toMatchObject([
    { status: 'anchor_broken', seal: 1 },
  ]);
});
