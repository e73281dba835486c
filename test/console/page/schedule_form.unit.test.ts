import { afterAll, describe, expect, test, vi } from 'vitest';
import { fieldProblems, isAtField, problemAt } from '../../../console/src/data/field_problems.ts';
import { ApiError } from '../../../console/src/data/request.ts';
import { currentRevision, isStale } from '../../../console/src/data/sending.ts';
import { ACTION_WORDS, requestOf } from '../../../console/src/schedules/action_model.ts';
import { changeName, parseShare, updatesOf } from '../../../console/src/schedules/change.ts';
import { check } from '../../../console/src/schedules/check.ts';
import { effectsOf, neighboursOf, stateAt } from '../../../console/src/schedules/effect.ts';
import { newSchedule, readSchedule } from '../../../console/src/schedules/form_model.ts';
import { scheduleRequest } from '../../../console/src/schedules/requests.ts';

await vi.hoisted(async () => (await import('./browser.ts')).stubBrowser());

afterAll(() => {
  vi.unstubAllGlobals();
});

const at = (time: string): number => Date.parse(`2026-11-26T${time}Z`);
const pending = (
  id: string,
  time: string,
  enabled: boolean | null,
  share: number | null = null,
) => ({
  ...{ id, scheduledAt: `2026-11-26T${time}Z` },
  updates: { enabled, rolloutPercentage: share },
});
const OFF = { enabled: false, rolloutPercentage: 100 };
const QUARTER = { enabled: true, rolloutPercentage: 25 };

describe('a change', () => {
  test.each([
    ['75', 75],
    [' 75 % ', 75],
    ['0', 0],
    ['100%', 100],
    ['101', null],
    ['7.5', null],
    ['', null],
  ])('the share %j is %j', (text, share) => {
    expect(parseShare(text)).toBe(share);
  });

  test('a share turns a flag on that is off, if it is asked to', () => {
    const share = { kind: 'share', share: '50', turnsOn: true } as const;
    expect(updatesOf(share, OFF)).toEqual({ enabled: true, rolloutPercentage: 50 });
    expect(updatesOf(share, QUARTER)).toEqual({ rolloutPercentage: 50 });
    expect(updatesOf({ ...share, turnsOn: false }, OFF)).toEqual({ rolloutPercentage: 50 });
    expect(updatesOf({ ...share, share: 'all' }, OFF)).toBeNull();
  });

  test('a button says what it does', () => {
    expect(changeName({ enabled: false })).toBe('Turn off');
    expect(changeName({ enabled: true })).toBe('Turn on');
    expect(changeName({ rolloutPercentage: 50 })).toBe('Set 50%');
    expect(changeName({ enabled: true, rolloutPercentage: 50 })).toBe('Turn on for 50%');
    expect(ACTION_WORDS.cancel.button('50%', '18:00')).toBe('Cancel 50% at 18:00');
    expect(ACTION_WORDS.move.button('50%', 'Fri 27 Nov 10:00')).toBe('Move to Fri 27 Nov 10:00');
  });
});

describe('what is pending', () => {
  const list = [
    pending('c', '21:00:00', null, 100),
    pending('b', '18:00:00', null, 50),
    pending('a', '18:00:00', null, 40),
  ];

  test('is applied by time, then by id', () => {
    expect(effectsOf(QUARTER, list).map(({ after }) => after.rolloutPercentage)).toEqual([
      40, 50, 100,
    ]);
  });

  test('gives the state at an instant', () => {
    expect(stateAt(QUARTER, list, at('17:59:59')).rolloutPercentage).toBe(25);
    expect(stateAt(QUARTER, list, at('18:00:00')).rolloutPercentage).toBe(50);
  });

  test('names what comes after a new change, and how many more', () => {
    const found = neighboursOf(QUARTER, list, at('17:00:00'), { rolloutPercentage: 30 });
    expect(found.next?.schedule.id).toBe('a');
    expect(found.next?.state.rolloutPercentage).toBe(40);
    expect(found).toMatchObject({ more: 2, together: [] });
  });

  test('names what is at the same instant, unless it sets another field', () => {
    const share = neighboursOf(QUARTER, list, at('21:00:00'), { rolloutPercentage: 30 });
    expect(share.together.map(({ id }) => id)).toEqual(['c']);
    const off = neighboursOf(QUARTER, list, at('21:00:00'), { enabled: false });
    expect(off).toMatchObject({ together: [], next: null, more: 0 });
  });
});

describe('the form', () => {
  const now = at('14:00:00');
  const text = { ...newSchedule('staging', 'checkout', 'UTC', now), time: '20:00' };
  const flag = { flagKey: 'checkout', ...OFF, pending: [pending('a', '18:00:00', true)] };

  test('begins today, at no time yet', () => {
    const fresh = newSchedule('staging', 'checkout', 'UTC', now);
    expect(fresh).toMatchObject({ date: '2026-11-26', time: '', kind: 'on' });
    expect(readSchedule(fresh, flag, now)).toMatchObject({ at: null, neighbours: null });
  });

  test('knows the flag just before its instant', () => {
    const share = { ...text, kind: 'share', share: '50' } as const;
    expect(readSchedule(share, flag, now)).toMatchObject({
      ...{ isOff: false, updates: { rolloutPercentage: 50 } },
      neighbours: { before: { enabled: true }, after: { enabled: true, rolloutPercentage: 50 } },
    });
    expect(readSchedule({ ...share, time: '17:00' }, flag, now)).toMatchObject({
      ...{ isOff: true, updates: { enabled: true, rolloutPercentage: 50 } },
    });
  });

  test('sends what the API’s schema takes', () => {
    const name = { environment: 'staging', flagKey: 'checkout' };
    const request = scheduleRequest(name, at('20:00:00'), { rolloutPercentage: 50 }, ' why ');
    expect(request).toEqual({
      ...{ method: 'POST', path: '/api/admin/flags/checkout/schedule?environment=staging' },
      body: {
        scheduled_at: '2026-11-26T20:00:00Z',
        ...{ updates: { rollout_percentage: 50 }, reason: 'why' },
      },
    });
    expect(check('schedule', request.body)).toEqual([]);
    expect(check('schedule', { ...request.body, reason: 'x'.repeat(501) })).toMatchObject([
      { path: 'reason' },
    ]);
    expect(check('flag', { flag_key: 'a b' })).toMatchObject([{ path: 'flag_key' }]);
  });
});

describe('a schedule’s actions', () => {
  const schedule = {
    ...{ id: 's1', status: 'pending', scheduledAt: '2026-11-26T18:00:00Z', revision: 3 },
    ...{ attempts: 0, errorMessage: null, updates: { rolloutPercentage: 50 } },
    ...{ suspendedFor: null, suspendedDetails: null, plan: null },
    flag: { ...QUARTER, flagKey: 'checkout', environment: 'production' },
  };

  test('name the revision that was seen', () => {
    const path = '/api/admin/flags/checkout/schedule/s1?environment=production';
    expect(requestOf('move', schedule, null, '')).toBeNull();
    expect(requestOf('move', schedule, at('19:00:00'), 'later')).toEqual({
      ...{ method: 'PATCH', path },
      body: { scheduled_at: '2026-11-26T19:00:00Z', reason: 'later', expected_revision: 3 },
    });
    expect(requestOf('cancel', schedule, null, ' ')).toEqual({
      ...{ method: 'DELETE', path, body: { expected_revision: 3 } },
    });
    expect(requestOf('retry', schedule, null, '')).toMatchObject({
      ...{ method: 'POST', path: path.replace('?', '/retry?') },
    });
    expect(requestOf('resume', schedule, null, 'It is right.')).toEqual({
      ...{ method: 'POST', path: path.replace('?', '/resume?') },
      body: { reason: 'It is right.' },
    });
  });
});

describe('a refusal', () => {
  const refusal = (code: string, details: Record<string, unknown> = {}) =>
    new ApiError('No.', code, 409, details);

  test('stands at the fields that it names', () => {
    const errors = [{ path: 'updates.rollout_percentage', message: 'Too big' }];
    const problems = fieldProblems(refusal('invalid_updates', { errors }));
    expect(problemAt(problems, 'updates')).toBe('Too big');
    expect(isAtField(problems, ['updates'])).toBe(true);
    expect(isAtField(problems, ['reason'])).toBe(false);
    expect(problemAt(fieldProblems(refusal('scheduled_at_in_past')), 'scheduled_at')).toBe('No.');
    expect(isAtField(fieldProblems(refusal('busy')), ['updates'])).toBe(false);
  });

  test('says which revision holds where somebody was faster', () => {
    const stale = refusal('flag_changed', { current: { revision: 8 } });
    expect([isStale(stale), currentRevision(stale)]).toEqual([true, 8]);
    expect([isStale(refusal('busy')), currentRevision(refusal('busy'))]).toEqual([false, null]);
  });
});
