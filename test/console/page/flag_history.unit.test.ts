import { afterAll, describe, expect, test, vi } from 'vitest';
import { pastOf } from '../../../console/src/flag/entries.ts';
import { isShown, titleOf } from '../../../console/src/flag/entry.ts';
import { entriesOf, type FlagEvent } from '../../../console/src/flag/events.ts';
import type { Status } from '../../../console/src/parts/marks.tsx';

await vi.hoisted(async () => (await import('./browser.ts')).stubBrowser());

afterAll(() => {
  vi.unstubAllGlobals();
});

const day = (time: string): string => `2026-11-26T${time}:00.000Z`;
const OFF = { enabled: false, rolloutPercentage: 100 };
const TENTH = { enabled: true, rolloutPercentage: 10 };

describe('a history’s titles', () => {
  test.each([
    [null, TENTH, 'Created'],
    [OFF, TENTH, 'Turned on for 10%'],
    [OFF, { ...OFF, enabled: true }, 'Turned on'],
    [TENTH, OFF, 'Turned off'],
    [TENTH, { ...TENTH, rolloutPercentage: 25 }, 'Set to 25%'],
    [TENTH, TENTH, 'Applied: nothing changed'],
  ])('from %j to %j', (before, after, title) => {
    expect(titleOf(before, after)).toBe(title);
  });
});

describe('the history from the trail', () => {
  const event = (
    id: string,
    eventType: string,
    metadata: unknown,
    more: Partial<FlagEvent> = {},
  ) => ({
    ...{ id, eventType, occurredAt: day('12:00'), metadata, seal: null, scheduleId: null },
    ...{ actorKind: 'admin', adminEmail: 'bob@example.com', adminUserId: 'bob' },
    ...{ databaseUser: 'halyard_authenticator', ...more },
  });
  const read = (...events: FlagEvent[]) => entriesOf(events, (at) => at.slice(11, 16));
  const worker = { actorKind: 'system', scheduleId: 's1', seal: { number: '412', problem: null } };

  test('has one line for a schedule that was applied', () => {
    const [line, ...others] = read(
      event('2', 'flag_schedule.applied', { latenessMs: 18 }, worker),
      event(
        '1',
        'feature_flag.updated',
        { before: OFF, after: TENTH, requestedBy: 'alice@example.com', reason: 'OPS-881' },
        worker,
      ),
    );
    expect(others).toEqual([]);
    expect(line).toMatchObject({
      ...{ status: 'applied', title: 'Turned on for 10%', before: OFF, after: TENTH, lateMs: 18 },
      ...{ by: 'alice, applied by the worker', reason: 'OPS-881', kind: 'change' },
      event: { id: '1', occurredAt: day('12:00'), seal: { number: '412', problem: null } },
    });
  });

  test('says what failed, where it has what was asked for', () => {
    const lines = read(
      event('2', 'flag_schedule.failed', { errorMessage: 'Frozen.', attempts: 3 }, worker),
      event('1', 'flag_schedule.created', { updates: { enabled: true } }, { scheduleId: 's1' }),
    );
    expect(lines[0]?.title).toBe('Failed: on');
  });

  test('has one for a schedule that changed nothing', () => {
    expect(read(event('2', 'flag_schedule.applied', { latenessMs: 3 }, worker))).toMatchObject([
      { title: 'Applied: nothing changed', lateMs: 3, status: 'applied' },
    ]);
  });

  test.each([
    [
      event('1', 'flag_schedule.created', {
        ...{ scheduledAt: day('18:00'), updates: { rollout_percentage: 50 } },
      }),
      { status: 'pending', title: 'Scheduled: 50% for 18:00', kind: 'decision', by: 'bob' },
    ],
    [
      event('1', 'flag_schedule.rescheduled', {
        ...{ before: { scheduledAt: day('18:00') }, after: { scheduledAt: day('19:00') } },
      }),
      { status: 'pending', title: 'Moved: the change from 18:00 to 19:00' },
    ],
    [
      event('1', 'flag_schedule.cancelled', {
        ...{ scheduledAt: day('18:00'), reason: 'manual_cancellation' },
      }),
      { status: 'cancelled', title: 'Cancelled: the change at 18:00', reason: null },
    ],
    [
      event('1', 'flag_schedule.failed', { errorMessage: 'Frozen.', attempts: 5 }),
      { status: 'failed', note: 'Frozen. (tries: 5)', kind: 'change' },
    ],
    [
      event('1', 'feature_flag.updated', { before: OFF, after: OFF }),
      { title: 'Description changed', kind: 'decision', after: null },
    ],
    [
      event('1', 'feature_flag.updated', { before: OFF, after: TENTH }, { actorKind: 'database' }),
      { title: 'Turned on for 10%', by: 'halyard_authenticator, in SQL', status: 'changed' },
    ],
    [event('1', 'feature_flag.created', { after: OFF }), { title: 'Created', before: null }],
    [event('1', 'feature_flag.deleted', { before: OFF }), { title: 'Deleted' }],
    [
      event('1', 'flag_schedule.suspended', {
        ...{ for: 'conflict', planId: 'p1' },
        details: { expected: { enabled: true }, found: { enabled: false } },
      }),
      {
        ...{ status: 'suspended', title: 'Suspended: the change', held: { planId: 'p1' } },
        note: 'expected enabled on, found off',
      },
    ],
    [
      event('1', 'flag_schedule.suspended', { for: 'stop', details: { environment: 'a' } }),
      { status: 'suspended', note: 'Suspended by the pause' },
    ],
    [
      event('1', 'flag_schedule.resumed', { suspendedFor: 'stop', reason: 'All well.' }),
      { status: 'pending', title: 'Resumed: the change', reason: 'All well.' },
    ],
    [
      event('1', 'flag_schedule.skipped', { scheduledAt: day('14:00') }),
      { status: 'skipped', title: 'Skipped: the change at 14:00' },
    ],
    // An event of a later version of Halyard.
    [event('1', 'flag_schedule.held', null), { title: 'flag_schedule.held' }],
  ])('$eventType', (one, expected) => {
    expect(read(one)).toMatchObject([expected]);
  });
});

describe('the past for viewers', () => {
  test('has the marks that are over, newest first', () => {
    const mark = (id: string, time: string, status: Status) => ({
      ...{ id, environment: 'production', flagKey: 'checkout', scheduleId: id, status },
      ...{ at: Date.parse(day(time)), before: OFF, after: TENTH, label: 'on', lateMs: 4 },
      ...{ updates: { enabled: true }, planId: null, isTogether: false },
    });
    const marks = [
      mark('a', '10:00', 'applied'),
      mark('b', '11:00', 'cancelled'),
      mark('e', '11:30', 'suspended'),
      mark('d', '11:40', 'skipped'),
      mark('c', '18:00', 'pending'),
    ];
    const lines = pastOf(marks, Date.parse(day('12:00')));
    expect(lines.map(({ title }) => title)).toEqual(['Skipped', 'Cancelled', 'Turned on for 10%']);
    expect(lines.every((line) => isShown(line, 'changes') && !isShown(line, 'decisions'))).toBe(
      true,
    );
  });
});
