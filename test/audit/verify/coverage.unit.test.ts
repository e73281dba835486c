import { expect, test } from 'vitest';
import { formatRanges, makeCoverage, numbersOf } from '../../../src/audit/verification/coverage.ts';

test('nothing is covered at first', () => {
  expect(makeCoverage().report()).toBeNull();
});

test('gaps are between the first number and the last, whatever the order and the repeats', () => {
  const coverage = makeCoverage();
  for (const n of [9, 3, 4, 9, 70_000, 65_535, 65_536, 3]) coverage.add(n);
  const gaps = [
    [5, 8],
    [10, 65_534],
    [65_537, 69_999],
  ];
  expect(coverage.report()).toEqual({ first: 3, last: 70_000, missing: 69_998 - 7 + 1, gaps });
});

test('a million numbers in any order, with three holes', () => {
  const coverage = makeCoverage();
  const holes = new Set([1_000, 500_000, 500_001]);
  // 7 and a million have no divisor in common: each number comes once, far from the one before.
  for (let i = 0; i < 1_000_000; i++) {
    const n = (i * 7) % 1_000_000;
    if (!holes.has(n)) coverage.add(n + 1);
  }
  expect(coverage.report()).toEqual({
    ...{ first: 1, last: 1_000_000, missing: 3 },
    gaps: [
      [1_001, 1_001],
      [500_001, 500_002],
    ],
  });
});

test('of many gaps the first are kept and all are counted', () => {
  const coverage = makeCoverage(2);
  for (const n of [1, 3, 5, 7]) coverage.add(n);
  expect(coverage.report()).toEqual({
    ...{ first: 1, last: 7, missing: 3 },
    gaps: [
      [2, 2],
      [4, 4],
    ],
  });
});

test('ranges are listed and written', () => {
  const ranges = [
    [1, 3],
    [7, 7],
  ] as const;
  expect(numbersOf(ranges, 10)).toEqual([1, 2, 3, 7]);
  expect(numbersOf(ranges, 2)).toEqual([1, 2]);
  expect(formatRanges(ranges, 2)).toBe('1 to 3, 7');
  expect(formatRanges(ranges, 1)).toBe('1 to 3, …');
});
