import { onTestFinished, expect, test } from 'vitest';
import type { AnchorReport } from '../../../src/audit/verification/anchors.ts';
import { cloneDatabase } from '../../support/database.ts';
import {
  accept,
  ask,
  changeFlags,
  compare,
  copyOf,
  delivered,
  makeLoss,
  startCloudWatchWorker,
} from '../../support/restored.ts';

const STATUSES = `select coalesce(array_agg(status), '{}') from audit.verify() where status <> 'ok'`;

const briefly = ({ problems }: AnchorReport) => problems.map(({ status }) => status);

test('a copy with a history that was given up is named as far as it was recorded, and is a problem beyond', async () => {
  const { server, lost, restored } = await makeLoss();
  const before = copyOf(server);
  expect(briefly(await compare(restored, before))).toEqual(['tail_cut']);
  expect(briefly(await compare(lost, before))).toEqual([]);

  // It lives on, and has asked the destination before the other writes there.
  const alive = await startCloudWatchWorker(server, lost);
  await changeFlags(restored, 30);
  const { worker } = await startCloudWatchWorker(server, restored);
  await accept(restored, 'skip');
  await delivered(restored, 13);
  await worker.stop();
  const copy = copyOf(server);
  const report = await compare(restored, copy);
  expect(report).toMatchObject({
    problems: [],
    behind: 0,
    lost: [{ reason: 'a disk was lost', events: { first: 7, last: 13 } }],
  });
  expect(await ask(restored, STATUSES)).toEqual([]);

  // The copy's own words about it still count.
  const forged = copy.map((line) =>
    line.replaceAll('"rolloutPercentage": 30', '"rolloutPercentage": 31'),
  );
  expect(briefly(await compare(restored, forged))).toEqual(['copy_differs']);

  // The lost database isn't lost: it goes on writing.
  await changeFlags(lost, 50);
  await delivered(lost, 18);
  await alive.worker.stop();
  expect(briefly(await compare(restored, copyOf(server)))).toContain('seal_missing');
  const again = await startCloudWatchWorker(server, restored);
  expect(again.lines.filter(({ level }) => level === 'error')).toHaveLength(1);
});

test('a loss that was accepted before any destination was asked reaches to the time of acceptance', async () => {
  const { server, restored } = await makeLoss();
  await accept(restored, 'skip');
  expect(await compare(restored, copyOf(server))).toMatchObject({
    problems: [],
    lost: [{ events: { first: 7, last: 13 } }],
  });
});

test('a copy made to be a database of its own verifies over the boundary, while its original goes on', async () => {
  const { server, lost, restored } = await makeLoss();
  await accept(restored, null, true);
  const alive = await startCloudWatchWorker(server, lost);
  await changeFlags(lost, 50);
  await delivered(lost, 18);
  await alive.worker.stop();
  expect(briefly(await compare(restored, copyOf(server)))).toEqual([]);
});

test('a still older snapshot that knows of one loss only explains the longer one before it, too', async () => {
  const { server, restored } = await makeLoss();
  const older = await cloneDatabase(restored.name);
  onTestFinished(() => older.drop());
  for (const database of [restored, older]) {
    const { worker } = await startCloudWatchWorker(server, database);
    await accept(database, 'skip');
    await delivered(database, 8);
    await worker.stop();
  }
  const copy = copyOf(server);
  const explained = { problems: [], lost: [{ events: { first: 7, last: 13 } }] };
  expect(await compare(older, copy)).toMatchObject(explained);
  // In any order of the lines.
  expect(await compare(older, copy.toReversed())).toMatchObject(explained);
});
