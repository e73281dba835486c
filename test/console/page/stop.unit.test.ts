import { afterAll, describe, expect, test, vi } from 'vitest';
import type { DueSchedule } from '../../../console/src/resume/documents.ts';
import {
  changeText,
  decisionOf,
  dueItems,
  exceptionsOf,
  laterText,
  resumeText,
  type Decisions,
} from '../../../console/src/resume/model.ts';
import { differencesIn, differenceText } from '../../../console/src/schedules/guard.ts';
import { andOf, reasonOf, waitingText } from '../../../console/src/stop/words.ts';

await vi.hoisted(async () => (await import('./browser.ts')).stubBrowser());

afterAll(() => {
  vi.unstubAllGlobals();
});

const time = (at: string | number): string => new Date(at).toISOString().slice(11, 16);
const at = (clock: string): string => `2026-11-26T${clock}:00.000Z`;
const NOW = Date.parse(at('20:06'));

const schedule = (
  id: string,
  clock: string,
  share: number,
  rest: Partial<DueSchedule> = {},
): DueSchedule => ({
  ...{ id, scheduledAt: at(clock), suspendedFor: 'stop', occurrenceNo: null, stepNo: null },
  ...{ createdBy: 'alice@example.com', requestedBy: null, reason: null, planId: null, plan: null },
  updates: { enabled: null, rolloutPercentage: share },
  flag: { flagKey: id, enabled: true, rolloutPercentage: 10 },
  ...rest,
});

const ofPlan = (id: string): Partial<DueSchedule> => ({
  ...{ planId: id, occurrenceNo: 1, stepNo: 1 },
  plan: { title: 'Black Friday', environments: ['production', 'staging'] },
});

describe('what is said before a pause', () => {
  test('is how much waits, and what comes first', () => {
    const changes = [
      { at: at('18:00'), flagKey: 'checkout' },
      { at: at('16:30'), flagKey: 'gift-cards' },
    ];
    expect(waitingText(changes, time)).toBe(
      '2 changes within 24 hours wait, first gift-cards at 16:30.',
    );
    expect(waitingText(changes.slice(0, 1), time)).toBe(
      '1 change within 24 hours waits, first checkout at 18:00.',
    );
    expect(waitingText([], time)).toBe('Nothing is due within 24 hours.');
  });

  test('names the environments, and gives a reason where a person gave none', () => {
    expect(andOf(['production', 'staging'])).toBe('production and staging');
    expect(andOf(['a', 'b', 'c'])).toBe('3 environments');
    expect(reasonOf('  ')).toBe('No reason was given.');
    expect(reasonOf(' errors up ')).toBe('errors up');
  });
});

describe('what came due while paused', () => {
  const list = [
    schedule('search-a', '20:00', 30, {
      flag: { flagKey: 'search', enabled: true, rolloutPercentage: 10 },
    }),
    schedule('search-b', '20:00', 0, {
      flag: { flagKey: 'search', enabled: true, rolloutPercentage: 10 },
    }),
    schedule('promo', '18:00', 100, ofPlan('p1')),
    schedule('checkout', '18:00', 50, ofPlan('p1')),
    schedule('gifts', '16:30', 100),
    // Due, and not suspended yet.
    schedule('just-due', '20:06', 5, { suspendedFor: null }),
    schedule('later', '21:00', 100, { suspendedFor: null }),
    // Nothing of the pause.
    schedule('guarded', '17:00', 1, { suspendedFor: 'conflict' }),
  ];
  const items = dueItems('production', list, NOW);

  test('is one decision for each, and one for all that a plan changes at once', () => {
    expect(items.map((item) => [item.id, item.plan?.title ?? null, changeText(item)])).toEqual([
      ['gifts', null, '100%'],
      ['checkout', 'Black Friday', 'checkout 50%, promo 100%'],
      ['search-a', null, '30%'],
      ['search-b', null, '0%'],
      ['just-due', null, '5%'],
    ]);
    expect(items[1]).toMatchObject({ elsewhere: ['staging'], schedules: [{}, {}] });
  });

  test('is done as chosen for all, but for two of one instant: neither, unless one is chosen', () => {
    const apply: Decisions = { all: 'apply', others: {} };
    expect(items.map((item) => decisionOf(item, apply))).toEqual([
      ...['apply', 'apply', 'skip', 'skip', 'apply'],
    ]);
    expect(exceptionsOf(items, apply)).toEqual(['search-a', 'search-b']);
    const chosen: Decisions = { all: 'skip', others: { 'search-b': 'apply', gone: 'apply' } };
    expect(exceptionsOf(items, chosen)).toEqual(['search-b']);
  });

  test('is on the button, so that it says what it does', () => {
    const say = (decisions: Decisions, isCut = false): string =>
      resumeText(items, decisions, isCut);
    expect(say({ all: 'apply', others: {} })).toBe('Apply 3, skip 2, resume');
    expect(say({ all: 'skip', others: {} })).toBe('Skip 5, resume');
    expect(say({ all: 'apply', others: {} }, true)).toBe('Apply the others, skip 2, resume');
    expect(resumeText([], { all: 'apply', others: {} }, false)).toBe('Resume');
  });

  test('leaves what is still to come as planned', () => {
    const later = [schedule('a', '21:00', 1), schedule('b', '22:00', 1), schedule('c', '23:00', 1)];
    expect(laterText(later, 5, time)).toBe('21:00 a, 22:00 b and 3 more');
    expect(laterText(later.slice(0, 1), 1, time)).toBe('21:00 a');
    expect(laterText([], 0, time)).toBe('');
  });
});

describe('what a suspended change expected', () => {
  test('is said beside what it found', () => {
    const details = {
      expected: { enabled: false, rollout_percentage: 25, owner: 'x' },
      found: { enabled: true, rollout_percentage: 25, owner: null },
    };
    expect(differenceText(differencesIn(details))).toBe(
      'expected enabled off, found on; expected owner “x”, found none',
    );
  });

  test('is nothing where it waits for a resume, or a viewer looks', () => {
    expect(differencesIn({ environment: 'production', reason: 'errors up' })).toEqual([]);
    expect(differencesIn(null)).toEqual([]);
    expect(differencesIn(undefined)).toEqual([]);
  });
});
