import { expect, test } from 'vitest';
import {
  coverageOf,
  formatRanges,
  makeNumberSet,
  numbersIn,
} from '../../../src/audit/verification/coverage.ts';

test('nothing is covered at first', () => {
  expect(coverageOf(makeNumberSet().numbers())).toBeNull();
});

test('gaps are between the first number and the last, for any order and repeats', () => {
  const set = makeNumberSet();
  for (const n of [9, 3, 4, 9, 70_000, 65_535, 65_536, 3]) set.add(n);
  const gaps = [
    [5, 8],
    [10, 65_534],
    [65_537, 69_999],
  ];
  expect(coverageOf(set.numbers())).toEqual({
    first: 3,
    last: 70_000,
    missing: 69_998 - 7 + 1,
    gaps,
  });
  expect(set.size()).toBe(6);
});

test('a million numbers in any order, with three holes', () => {
  const set = makeNumberSet();
  const holes = new Set([1_000, 500_000, 500_001]);
  // 7 and a million have no divisor in common: each number comes once, far from the one before.
  for (let i = 0; i < 1_000_000; i++) {
    const n = (i * 7) % 1_000_000;
    if (!holes.has(n)) set.add(n + 1);
  }
  expect(coverageOf(set.numbers())).toEqual({
    ...{ first: 1, last: 1_000_000, missing: 3 },
    gaps: [
      [1_001, 1_001],
      [500_001, 500_002],
    ],
  });
});

test('of many gaps the first are kept and all are counted', () => {
  const found = coverageOf(Array.from({ length: 2_000 }, (_, i) => 2 * i + 1));
  expect(found).toMatchObject({ first: 1, last: 3_999, missing: 1_999 });
  expect(found?.gaps).toHaveLength(1_000);
  expect(found?.gaps.at(-1)).toEqual([2_000, 2_000]);
});

test('ranges are listed and written', () => {
  const ranges = [
    [1, 3],
    [7, 7],
  ] as const;
  expect([...numbersIn(ranges)]).toEqual([1, 2, 3, 7]);
  expect(formatRanges(ranges, 2)).toBe('1 to 3, 7');
  expect(formatRanges(ranges, 1)).toBe('1 to 3, …');
});
