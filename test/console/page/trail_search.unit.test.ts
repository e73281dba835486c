import { afterAll, describe, expect, test, vi } from 'vitest';
import { suggestionsFor, wordAt } from '../../../console/src/trail/completion.ts';
import { exportOf } from '../../../console/src/trail/export_request.ts';
import { matches, readSearch, readTime } from '../../../console/src/trail/search.ts';
import { event, ID } from './trail_event.ts';

await vi.hoisted(async () => (await import('./browser.ts')).stubBrowser());

afterAll(() => {
  vi.unstubAllGlobals();
});

const NOW = Date.parse('2026-11-26T14:04:22Z');
const CONTEXT = { zone: 'Europe/Paris', now: NOW, environment: 'production' };
describe('the search of the trail', () => {
  const conditionOf = (text: string) => readSearch(text, CONTEXT).condition;

  test('filters narrow on the server', () => {
    expect(conditionOf('flag:checkout-v2 level:error request:r1 env:staging')).toEqual({
      ...{ flagKey: 'checkout-v2', level: 'error', requestId: 'r1', environment: 'staging' },
    });
  });

  test('the frame’s environment holds unless another or all is said', () => {
    expect(conditionOf('')).toEqual({ environment: 'production' });
    // What is one, or of one request, is found wherever it is.
    for (const text of [ID, '#12', 'request:r1'])
      expect(conditionOf(text).environment, text).toBeUndefined();
    expect(conditionOf('#12 env:staging').environment).toBe('staging');
    expect(conditionOf('env:all')).toEqual({});
    expect(readSearch('', { ...CONTEXT, environment: null }).condition).toEqual({});
  });

  test('a type is itself, a pattern, or a beginning', () => {
    expect(conditionOf('type:flag_schedule.failed').eventType).toBe('flag_schedule.failed');
    expect(conditionOf('type:flag_schedule.*').eventTypePattern).toBe('flag_schedule.*');
    expect(conditionOf('type:flag_sch').eventTypePattern).toBe('flag_sch*');
    expect(readSearch('type:nothing', CONTEXT).problems).toEqual([
      'type: no type begins with nothing',
    ]);
  });

  test('by is an address, a kind of actor, or a name that is looked up', () => {
    expect(conditionOf('by:alice@example.com').adminEmail).toBe('alice@example.com');
    expect(conditionOf('by:worker').actorKind).toBe('worker');
    expect(readSearch('by:alice', CONTEXT)).toMatchObject({ person: 'alice' });
  });

  test.each([
    ['-24h', '2026-11-25T14:04:22.000Z'],
    ['24h', '2026-11-25T14:04:22.000Z'],
    ['2026-11-26', '2026-11-25T23:00:00.000Z'],
    ['today', '2026-11-25T23:00:00.000Z'],
    ['yesterday 9:00', '2026-11-25T08:00:00.000Z'],
    ['2026-11-26T10:00:00+02:00', '2026-11-26T08:00:00.000Z'],
  ])('since:%s is %s', (text, expected) => {
    expect(readTime(text, CONTEXT)).toBe(expected);
  });

  test('what it can’t use is said and left out', () => {
    const { condition, problems } = readSearch('flg:x level:bad since:soon seq:x', CONTEXT);
    expect(condition).toEqual({ environment: 'production' });
    expect(problems).toEqual([
      'unknown: flg:x',
      'level: info, warning or error',
      'seq: the number of an event',
      'since: no time: soon',
    ]);
  });

  test('ids and numbers are no words', () => {
    expect(readSearch(`${ID.toUpperCase()} checkout`, CONTEXT)).toMatchObject({
      ...{ id: ID, words: ['checkout'] },
    });
    expect(conditionOf('1,204').seq).toBe('1204');
    expect(readSearch('3ds', CONTEXT).words).toEqual(['3ds']);
  });

  test('words are parts of keys or beginnings of ids, names as people call each other', () => {
    expect(matches(event(), ['check', 'out-v2'], null)).toBe(true);
    expect(matches(event(), ['af067ef1'], null)).toBe(true);
    expect(matches(event(), ['gift'], null)).toBe(false);
    expect(matches(event(), [], 'Alice')).toBe(true);
    expect(matches(event(), [], '00u1')).toBe(true);
    expect(matches(event(), [], 'bob')).toBe(false);
  });
});

describe('completion', () => {
  const known = { environments: ['production'], people: ['bob@example.com'], flagKeys: ['beta'] };
  const texts = (word: string) => suggestionsFor(word, known).map(({ text }) => text);

  test('completes keys after typing, then their values', () => {
    expect(texts('')).toEqual([]);
    expect(texts('b')).toEqual(['by:', 'flag:beta']);
    expect(texts('by:')).toContain('by:bob@example.com');
    expect(texts('level:e')).toEqual(['level:error']);
    expect(texts('type:cancel')).toEqual([
      ...['type:flag_schedule.cancelled', 'type:flag_plan.cancelled'],
    ]);
    expect(texts('flg:x')).toEqual([]);
  });

  test('the word is the one before the cursor', () => {
    expect(wordAt('flag:a le', 9)).toEqual({ word: 'le', from: 7 });
    expect(wordAt('flag:a le', 4)).toEqual({ word: 'flag', from: 0 });
  });
});

describe('an export of the search', () => {
  const asked = (text: string) => exportOf(readSearch(text, CONTEXT));

  test('takes what the REST API knows', () => {
    expect(
      asked('flag:a by:bob@example.com type:flag_schedule.c* since:2026-11-26T10:00:00Z'),
    ).toEqual({
      path: '/api/admin/audit/events?from=2026-11-26T10:00:00.000Z&flag=a&environment=production&type=flag_schedule.created,flag_schedule.cancelled&actor=bob%40example.com',
      left: [],
    });
    expect(asked('env:all by:worker').path).toBe('/api/admin/audit/events?actor=system');
    expect(asked('env:all #7').path).toBe('/api/admin/audit/events?after=6&until=7');
  });

  test('says what it can’t take', () => {
    expect(asked('checkout level:error request:r1').left).toEqual(['level', 'request', 'checkout']);
  });
});
