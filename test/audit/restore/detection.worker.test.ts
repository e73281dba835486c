import { Registry } from 'prom-client';
import { describe, expect, test } from 'vitest';
import { GROUP, makeTestSink, STREAM } from '../../support/cloudwatch_sink.ts';
import { withClient } from '../../support/database.ts';
import { makeCloudWatchServer } from '../../support/cloudwatch_server.ts';
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
import { insertDue, startTestWorker, useFreshDatabase } from '../../support/worker.ts';
import { collectFacts } from '../../support/chaos/facts.ts';
import { findBreaches } from '../../support/chaos/invariant.ts';
import type { LogLine } from '../../support/log.ts';

const STATUS = 'select status from app_public.feature_flag_schedules where id = $1';
const AHEAD = 'a destination has audit events of this trail that the database lacks';
const saidAhead = (lines: readonly LogLine[]) =>
  lines.filter(({ level, msg }) => level === 'error' && String(msg).startsWith(AHEAD));

describe('a worker that starts on an older snapshot', () => {
  test('forwards and numbers nothing, and applies what is due after the lost history only', async () => {
    const { server, restored, scheduleId } = await makeLoss();
    const before = copyOf(server).length;
    await changeFlags(restored, 30);
    const { lines } = await startCloudWatchWorker(server, restored);
    await withClient(restored.ownerUrl, (client) =>
      insertDue(client, { count: 1, dueIn: '200 milliseconds' }),
    );
    await expect
      .poll(
        () =>
          ask(
            restored,
            `select count(*)::int from app_public.feature_flag_schedules where status = 'applied'`,
          ),
        { timeout: 10_000 },
      )
      .toBe(1);

    expect(await ask(restored, STATUS, [scheduleId])).toBe('pending');
    expect(await ask(restored, 'select max(seq)::int from audit.ledger')).toBe(6);
    expect(await ask(restored, 'select count(*)::int from audit.queue')).toBe(9);
    expect(copyOf(server)).toHaveLength(before);
    expect(saidAhead(lines)).toMatchObject([{ destination: DESTINATION }]);
    expect(
      await ask(
        restored,
        `select value::int from app_private.metrics() where metric = 'destination_ahead'`,
      ),
    ).toBe(1);
    expect(await ask(restored, 'select overdue_for from app_private.next_due()')).toBeNull();
  });

  test('finds it also when it can’t ask itself, once another has', async () => {
    const { server, restored } = await makeLoss();
    const first = await startCloudWatchWorker(server, restored);
    expect(saidAhead(first.lines)).toHaveLength(1);
    await first.worker.stop();
    const { lines, sink } = await startTestWorker(restored);
    await changeFlags(restored, 30);
    await expect.poll(() => saidAhead(lines)).toHaveLength(1);
    expect(sink.taken).toEqual([]);
  });

  test.for(['apply', 'skip'] as const)(
    'goes on once the loss is accepted (%s), and nothing outside has two meanings',
    async (overdue) => {
      const { server, lost, restored, scheduleId } = await makeLoss();
      await changeFlags(restored, 30);
      const { lines } = await startCloudWatchWorker(server, restored);
      expect(saidAhead(lines)).toHaveLength(1);
      await changeFlags(restored, 40);
      const report = await accept(restored, overdue);
      expect(report).toMatchObject({
        lastSeq: 6,
        skipped: overdue === 'skip' ? 1 : 0,
        queued: 10,
        destinations: [{ destination: DESTINATION, lastSeq: 13 }],
      });
      await expect
        .poll(() => ask(restored, STATUS, [scheduleId]), { timeout: 10_000 })
        .toBe(overdue === 'skip' ? 'cancelled' : 'applied');
      // Ten changes, audit.restored, and what became of the schedule.
      await delivered(restored, overdue === 'skip' ? 18 : 19);
      expect(ambiguities(server)).toEqual([]);
      const copy = { destination: DESTINATION, lines: copyOf(server) };
      expect(findBreaches(await collectFacts(restored, [copy], []))).toEqual([]);
      expect(
        await ask(restored, `select count(*)::int from audit.verify() where status <> 'ok'`),
      ).toBe(0);
      expect(
        lines.filter(({ level, msg }) => level === 'error' && !String(msg).startsWith(AHEAD)),
      ).toEqual([]);
      // What was shipped twice was shipped as it was; the lost events are in the copy only.
      expect(await ask(lost, 'select max(seq)::int from audit.ledger')).toBe(13);
    },
  );

  test('accepted under load, with two workers, gives nothing outside two meanings', async () => {
    const { server, restored } = await makeLoss();
    let stopped = false;
    const change = async (n: number) => {
      for (let i = 0; !stopped; i++) await changeFlags(restored, (i + n) % 100);
    };
    // In turns they would wait for each other's rows; each has flags of its own to insert as well.
    const insert = () =>
      withClient(restored.ownerUrl, async (client) => {
        while (!stopped) await insertDue(client, { count: 3, dueIn: '50 milliseconds' });
      });
    const load = [change(7), insert(), insert()];
    const first = await startCloudWatchWorker(server, restored);
    await startCloudWatchWorker(server, restored);
    await expect.poll(() => saidAhead(first.lines)).toHaveLength(1);
    const accepting = (async () => {
      for (;;) {
        const done = await accept(restored, 'skip').catch((error: unknown) => error);
        if (!(done instanceof Error)) return;
        expect((done as Error & { code?: string }).code).toMatch(/^(55P03|40P01)$/);
      }
    })();
    await accepting;
    await expect
      .poll(() => ask<number>(restored, 'select max(seq)::int from audit.ledger'), {
        timeout: 20_000,
      })
      .toBeGreaterThan(50);
    stopped = true;
    await Promise.all(load);
    await expect
      .poll(
        () =>
          // In one statement: an apply between two would queue events that neither sees.
          ask(
            restored,
            `select array[(select count(*) from audit.queue),
               (select count(*) from app_public.feature_flag_schedules where status = 'pending'),
               (select max(seq) from audit.ledger) - (select max(last_seq) from audit.cursors)]::int[]`,
          ),
        { timeout: 30_000 },
      )
      .toEqual([0, 0, 0]);
    expect(ambiguities(server)).toEqual([]);
    const copy = { destination: DESTINATION, lines: copyOf(server) };
    expect(findBreaches(await collectFacts(restored, [copy], []))).toEqual([]);
  });

  test('finds a lost seal of the present incarnation, though a history before it had a clock that was ahead', async () => {
    const database = await useFreshDatabase();
    const look = (incarnation: string, sealedIn: string) =>
      ask(
        database,
        `select obstacle from app_private.delivery_state('cloudwatch:x', jsonb_build_object(
           'trail', (select max(trail::text) from audit.incarnations), 'seals', jsonb_build_array(jsonb_build_object(
             'incarnation', $1::text, 'seal', 9, 'lastSeq', 99, 'head', repeat('ab', 32), 'sealedAt', now() + $2::interval))))`,
        [incarnation, sealedIn],
      );
    expect(await look('00000000-0000-4000-8000-000000000000', '1 day')).toBe('ahead');
    const { incarnation } = await accept(database, 'skip');
    expect(await look('00000000-0000-4000-8000-000000000000', '1 hour')).toBeNull();
    expect(await look(String(incarnation), '1 hour')).toBe('ahead');
  });

  test('accepted before the first worker starts, it goes on at once', async () => {
    const { server, restored } = await makeLoss();
    await changeFlags(restored, 30);
    await accept(restored, 'skip');
    const { lines } = await startCloudWatchWorker(server, restored);
    await delivered(restored, 13);
    expect(saidAhead(lines)).toEqual([]);
    expect(ambiguities(server)).toEqual([]);
    expect(await ask(restored, 'select last_seq::int from audit.divergences')).toBe(13);
  });
});

describe('the destination', () => {
  test('that can’t be asked for want of permissions is forwarded to, with one warning that names them', async () => {
    const server = await makeCloudWatchServer();
    const database = await useFreshDatabase();
    server.failNext('denied', 2, 'DescribeLogStreams');
    const registry = new Registry();
    const { lines } = await startCloudWatchWorker(server, database, { registry });
    await changeFlags(database, 10);
    await delivered(database, 5);
    expect(await registry.metrics()).toContain(
      `halyard_destination_unasked{destination="${DESTINATION}"} 1`,
    );
    const warnings = lines.filter(({ msg }) => String(msg).includes("can't be read"));
    expect(warnings).toHaveLength(1);
    expect(warnings[0]).toMatchObject({ level: 'warn' });
    expect(warnings[0]?.msg).toContain('allow logs:DescribeLogStreams and logs:GetLogEvents');
    await server.close();
  });

  test('in an outage holds up forwarding until it answers, and no schedule', async () => {
    const { server, restored } = await makeLoss();
    const before = copyOf(server).length;
    server.failNext('hang', 1, 'DescribeLogStreams');
    const { lines } = await startCloudWatchWorker(server, restored);
    await withClient(restored.ownerUrl, (client) => insertDue(client, { count: 1, dueIn: '0' }));
    await expect
      .poll(
        () =>
          ask(
            restored,
            `select count(*)::int from app_public.feature_flag_schedules where status = 'applied'`,
          ),
        { timeout: 10_000 },
      )
      .toBeGreaterThan(0);
    expect(copyOf(server)).toHaveLength(before);
    await expect.poll(() => saidAhead(lines), { timeout: 20_000 }).toHaveLength(1);
  });

  test('has no seal where there is no group and no stream, nor seals of another trail', async () => {
    const server = await makeCloudWatchServer();
    const { sink } = makeTestSink(server);
    const none = new AbortController().signal;
    const trail = '00000000-0000-4000-8000-000000000000';
    const nothing = { trail, seals: [], events: [] };
    expect(await sink.readTail?.(trail, none)).toEqual(nothing);
    const { server: other } = await makeLoss();
    const { sink: filled } = makeTestSink(other);
    expect(await filled.readTail?.(trail, none)).toEqual(nothing);
    const newest = copyOf(other).findLast((text) => text.includes('"audit.sealed"')) ?? '';
    const { metadata } = JSON.parse(newest) as { metadata: { trail: string; seal: number } };
    const tail = { seals: [metadata], events: [] };
    expect(await filled.readTail?.(metadata.trail, none)).toMatchObject(tail);
    // Behind more than a page of other records, and in another stream than the newest ones.
    other.createStream(GROUP, 'other');
    expect(await filled.readTail?.(metadata.trail, none)).toMatchObject(tail);
    expect(STREAM).not.toBe('other');
    await server.close();
  });
});
