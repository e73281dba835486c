import { Registry } from 'prom-client';
import { expect, onTestFinished, test } from 'vitest';
import { makeDivergenceCheck } from '../../../src/audit/delivery/divergence.ts';
import { queryOf } from '../../../src/audit/delivery/outbox.ts';
import type { Sink } from '../../../src/audit/delivery/sink.ts';
import { makePool } from '../../../src/postgres/pool.ts';
import { GROUP } from '../../support/cloudwatch_sink.ts';
import { cloneDatabase, withClient } from '../../support/database.ts';
import { makeTestLog } from '../../support/log.ts';
import {
  accept,
  ambiguities,
  ask,
  changeFlags,
  copyOf,
  delivered,
  DESTINATION,
  makeLoss,
  startCloudWatchWorker,
} from '../../support/restored.ts';
import {
  insertDue,
  makeMemorySink,
  startTestWorker,
  useFreshDatabase,
} from '../../support/worker.ts';

/** Puts an older state of a database in its place, as a failover to a standby that lagged behind does. */
async function rewind(database: { name: string; rootUrl: string }, to: { name: string }) {
  const postgres = new URL(database.rootUrl);
  postgres.pathname = '/postgres';
  await withClient(postgres.href, async (client) => {
    await client.query(`alter database ${database.name} allow_connections false`);
    // Again and again: a session that was beginning is seen only afterwards.
    await expect
      .poll(async () => {
        const { rows } = await client.query(
          'select pg_terminate_backend(pid) from pg_stat_activity where datname = any ($1)',
          [[database.name, to.name]],
        );
        return rows.length;
      })
      .toBe(0);
    await client.query(`alter database ${database.name} rename to ${database.name}_lost`);
    await client.query(`alter database ${to.name} rename to ${database.name}`);
  });
  onTestFinished(() =>
    withClient(postgres.href, async (client) => {
      await client.query(`drop database ${database.name}_lost with (force)`);
    }),
  );
}

test.for(['that can be asked', 'that can’t'])(
  'a failover that loses changes is found by a running worker, with a destination %s',
  async (kind) => {
    const { server, lost: database } = await makeLoss();
    // A worker's database is one name: the snapshot of now takes its place later.
    const snapshot = await cloneDatabase(database.name);
    const memory = makeMemorySink();
    const { lines } = await (kind === 'that can’t'
      ? startTestWorker(database, { sink: memory })
      : startCloudWatchWorker(server, database));
    const taken = () => (kind === 'that can’t' ? memory.taken : copyOf(server)).length;
    const destination = kind === 'that can’t' ? 'stdout' : `cloudwatch:${GROUP}`;
    await changeFlags(database, 40);
    await expect
      .poll(() =>
        ask(database, 'select last_seq::int from audit.cursors where destination = $1', [
          destination,
        ]),
      )
      .toBe(18);
    await rewind(database, snapshot);
    const before = taken();
    await changeFlags(database, 50);
    await expect
      .poll(() => lines.filter(({ msg }) => String(msg).startsWith('a destination has')), {
        timeout: 20_000,
      })
      .toMatchObject([{ level: 'error', destination }]);
    expect(taken()).toBe(before);
    expect(await ask(database, 'select max(seq)::int from audit.ledger')).toBe(13);

    await accept(database, 'apply');
    await expect
      .poll(() => ask(database, 'select max(last_seq)::int from audit.cursors'), {
        timeout: 20_000,
      })
      .toBe(19);
    expect(lines.some(({ msg }) => msg === 'forwarding goes on')).toBe(true);
    if (kind !== 'that can’t') expect(ambiguities(server)).toEqual([]);
  },
);

test('a worker that has forwarded nothing yet asks again, before it applies what the lost history has applied', async () => {
  const { server, lost: database, restored, scheduleId } = await makeLoss();
  const { lines } = await startCloudWatchWorker(server, database);
  const before = copyOf(server).length;
  await rewind(database, restored);
  await expect
    .poll(() => lines.filter(({ level }) => level === 'error').map(({ msg }) => msg), {
      timeout: 20_000,
    })
    .toEqual([expect.stringContaining('a destination has')]);
  await changeFlags(database, 50);
  await withClient(database.rootUrl, (client) =>
    insertDue(client, { count: 1, dueIn: '100 milliseconds' }),
  );
  const applied = `select array_agg(distinct schedule_id) from audit.events where event_type = 'flag_schedule.applied'`;
  await expect
    .poll(() => ask<string[] | null>(database, applied), { timeout: 20_000 })
    .toHaveLength(1);
  expect(await ask(database, applied)).not.toContain(scheduleId);
  expect(copyOf(server)).toHaveLength(before);
});

test('a copy forwards nothing to its original’s place, applies nothing, and works with a place of its own', async () => {
  const { server, restored, scheduleId } = await makeLoss();
  const before = copyOf(server).length;
  await accept(restored, null, true);
  expect(
    await ask(restored, 'select status from app_public.feature_flag_schedules where id = $1', [
      scheduleId,
    ]),
  ).toBe('cancelled');
  const registry = new Registry();
  const { worker, lines } = await startCloudWatchWorker(server, restored, { registry });
  await expect
    .poll(() => lines.filter(({ level }) => level === 'error').map(({ msg }) => msg))
    .toEqual([expect.stringContaining('this database is a copy')]);
  expect(await registry.metrics()).toContain(
    `halyard_destination_refused{destination="${DESTINATION}"} 1`,
  );
  await worker.stop();
  expect(copyOf(server)).toHaveLength(before);
  const { sink } = await startTestWorker(restored);
  await expect.poll(() => sink.taken.length).toBeGreaterThan(8);
  expect(await ask(restored, `select count(*)::int from audit.verify() where status <> 'ok'`)).toBe(
    0,
  );
});

test('a worker on a database that was not restored asks once, and nothing is in its way', async () => {
  const database = await useFreshDatabase();
  const sink = makeMemorySink();
  let asked = 0;
  const { lines } = await startTestWorker(database, {
    sink: {
      ...sink,
      readTail: (trail) => {
        asked += 1;
        return Promise.resolve({ trail, seals: [], events: [] });
      },
    },
  });
  for (const percentage of [10, 20, 30]) {
    await changeFlags(database, percentage);
    await delivered(database, percentage / 2);
  }
  expect(asked).toBe(1);
  expect(lines.filter(({ level }) => level === 'error' || level === 'warn')).toEqual([]);
});

test('a destination that gave no answer is asked again before later schedules, and holds them up once only', async () => {
  const database = await useFreshDatabase();
  const { log } = makeTestLog();
  const pool = makePool(database.workerUrl, { name: 'halyard worker', max: 2, log });
  onTestFinished(() => pool.end());
  // A connection that is opened later is a reason to ask, too.
  await pool.query('select');
  let asked = 0;
  const sink: Sink = {
    ...makeMemorySink(),
    readTail: (trail) => {
      asked += 1;
      if (asked === 1) throw new Error('no answer');
      return Promise.resolve({ trail, seals: [], events: [] });
    },
  };
  const check = makeDivergenceCheck({ pool, sink, destination: 'stdout', log });
  const { signal } = new AbortController();
  await check.settled(signal);
  expect(asked).toBe(1);
  const asksAgain = async () => {
    await check.settled(signal);
    return asked;
  };
  await expect.poll(asksAgain, { timeout: 10_000 }).toBe(2);
  await check.settled(signal);
  expect(asked).toBe(2);
});

test('events that were confirmed without their seal count as well, where the destination can’t be asked', async () => {
  const database = await useFreshDatabase();
  const { log, lines } = makeTestLog();
  const pool = makePool(database.workerUrl, { name: 'halyard worker', max: 2, log });
  onTestFinished(() => pool.end());
  const check = makeDivergenceCheck({ pool, sink: makeMemorySink(), destination: 'stdout', log });
  const { signal } = new AbortController();
  expect(await check.permits(queryOf(pool), signal)).toBe(true);
  const eventId = '00000000-0000-4000-8000-000000000000';
  const message = JSON.stringify({ eventType: 'feature_flag.updated', eventId, seq: 7 });
  check.note([{ seq: 7, eventId, occurredAt: new Date(), message }]);
  expect(await check.permits(queryOf(pool), signal)).toBe(false);
  expect(lines.filter(({ level }) => level === 'error')).toHaveLength(1);
  await accept(database, 'skip');
  expect(await check.permits(queryOf(pool), signal)).toBe(true);
});
