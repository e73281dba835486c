import { afterAll, describe, expect, test, vi } from 'vitest';
import type { Entry } from '../../../console/src/flag/entry.ts';
import { afterMicrosecond, sourceOf } from '../../../console/src/flag/revert_source.ts';
import { resumeRequest, revertRequest } from '../../../console/src/plans/requests.ts';

await vi.hoisted(async () => (await import('./browser.ts')).stubBrowser());

afterAll(() => {
  vi.unstubAllGlobals();
});

const at = (time: string): number => Date.parse(`2026-11-26T${time}Z`);

test('reverts go to the address of what they take back', () => {
  const how = { onConflict: 'keep', at: null, reason: ' why ' } as const;
  const schedule = {
    kind: 'schedule',
    id: 's1',
    flagKey: 'check out',
    environment: 'staging',
  } as const;
  expect(revertRequest({ ...how, source: schedule })).toEqual({
    ...{ method: 'POST', body: { on_conflict: 'keep', reason: 'why' } },
    path: '/api/admin/flags/check%20out/schedule/s1/revert?environment=staging',
  });
  expect(revertRequest({ ...how, source: schedule }, true).path).toBe(
    '/api/admin/flags/check%20out/schedule/s1/revert/dry-run?environment=staging',
  );
  expect(
    revertRequest({ ...how, at: at('18:00:00'), source: { kind: 'plan', id: 'p1' } }),
  ).toMatchObject({
    ...{ path: '/api/admin/plans/p1/revert' },
    body: { at: '2026-11-26T18:00:00Z' },
  });
  expect(
    revertRequest({
      ...how,
      source: { kind: 'span', environment: 'staging', from: 'a', to: 'b', flags: ['c'] },
    }),
  ).toMatchObject({
    ...{ path: '/api/admin/environments/staging/revert' },
    body: { from: 'a', to: 'b', flags: ['c'] },
  });
  expect(resumeRequest(schedule, ' why ')).toMatchObject({ body: { reason: 'why' } });
});

describe('what of a flag’s history can be taken back', () => {
  const flag = { environment: 'staging', flagKey: 'checkout' };
  const state = (rolloutPercentage: number) => ({ enabled: true, rolloutPercentage });
  const entry: Entry = {
    ...{ key: 'e1', at: 0, status: 'changed', title: 'Set to 50%', kind: 'change', note: '' },
    ...{ before: state(25), after: state(50), by: 'alice', reason: null, lateMs: null },
    scheduleId: null,
    event: { id: 'e1', occurredAt: '2026-11-26T15:02:10.000999Z', seal: null },
  };

  test('is a schedule, or the one microsecond of a change by a person', () => {
    expect(sourceOf(flag, { ...entry, scheduleId: 's1' })).toEqual({
      ...{ kind: 'schedule', id: 's1', ...flag },
    });
    expect(sourceOf(flag, entry)).toEqual({
      ...{ kind: 'span', environment: 'staging', flags: ['checkout'] },
      ...{ from: '2026-11-26T15:02:10.000999Z', to: '2026-11-26T15:02:10.001000Z' },
    });
    expect(afterMicrosecond('2026-11-26T15:02:59.999999Z')).toBe('2026-11-26T15:03:00.000000Z');
    expect(afterMicrosecond('2026-11-26T15:02:59.5Z')).toBe('2026-11-26T15:02:59.500001Z');
    expect(afterMicrosecond('2026-11-26T15:02:59Z')).toBe('2026-11-26T15:02:59.000001Z');
  });

  test('is nothing where nothing changed, and for who reads no trail', () => {
    for (const other of [
      { event: null },
      { before: null },
      { after: null },
      { kind: 'decision' as const },
    ])
      expect(sourceOf(flag, { ...entry, ...other })).toBeNull();
  });
});
