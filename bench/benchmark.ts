import { shortNumber, type Spread } from './measure.ts';
import type { Environment } from './environment.ts';

/** How much of it: `smoke` shows only that it runs, `full` is what takes minutes. */
export type Size = 'smoke' | 'usual' | 'full';

/** One line of the answer. */
export interface Figure {
  readonly what: string;
  readonly unit: string;
  readonly value: Spread;
  /** The limit under it, measured in the same run. */
  readonly baseline?: { readonly what: string; readonly value: Spread };
  /** What the figure should be, and whether this figure does. */
  readonly target?: { readonly text: string; readonly met: boolean };
}

/** One benchmark: a file of bench/benchmarks. */
export interface Benchmark {
  readonly name: string;
  readonly description: string;
  run(environment: Environment, size: Size): Promise<Figure[]>;
}

/** How far the lowest and the highest may lie apart, as a part of the median, before a figure is called noise. */
const NOISE = 0.3;

/** Whether a figure, or its baseline, varies too much from round to round to be read closely. */
export function isNoise({ value, baseline }: Figure): boolean {
  const spreads = baseline === undefined ? [value] : [value, baseline.value];
  return spreads.some(({ median, min, max }) => max - min > NOISE * Math.abs(median));
}

/** A figure as a line of the table: what, figure with spread, baseline, ratio, aim, and whether it is noise. */
export function toCells(figure: Figure): string[] {
  const { what, unit, value, baseline, target } = figure;
  return [
    what,
    `${describe(value)} ${unit}`,
    baseline === undefined ? '–' : `${describe(baseline.value)} ${unit}: ${baseline.what}`,
    baseline === undefined ? '–' : shortNumber(value.median / baseline.value.median),
    target === undefined ? '–' : `${target.text}: ${target.met ? 'reached' : '**missed**'}`,
    isNoise(figure) ? 'noise' : '',
  ];
}

function describe({ median, min, max }: Spread): string {
  if (min === max) return shortNumber(median);
  return `${shortNumber(median)} (${shortNumber(min)}–${shortNumber(max)})`;
}
