import { computed } from '@preact/signals';
import { now } from '../data/clock.ts';
import { param, setParams } from '../router.ts';
import { parseSpan } from '../time/parse.ts';
import { DAY, HOUR } from '../time/zone.ts';

/** The spans that one can zoom to, in milliseconds, with their names in the address. */
export const SPANS = [
  ['6h', '6 h', 6 * HOUR],
  ['24h', '24 h', DAY],
  ['7d', '7 d', 7 * DAY],
  ['30d', '30 d', 30 * DAY],
] as const;

/** The share of the span before now, while it follows now: the most lies ahead. */
const BEHIND = 0.25;
/** Parts of the span in which it follows now: so a page asks again some times an hour and not each second. */
const STEPS = 48;
/** The server takes 400 days. */
const LONGEST = 400 * DAY;

export interface Range {
  readonly from: number;
  readonly to: number;
}

/** Milliseconds; what the address says and can't be is left out. */
export const span = computed((): number => {
  const asked = parseSpan(param('span'));
  return asked !== null && asked > 0 ? Math.min(asked, LONGEST) : DAY;
});

/** Whether the span moves on with now. */
export const isFollowing = computed(() => Number.isNaN(Date.parse(param('from'))));

const beginning = computed((): number => {
  const asked = Date.parse(param('from'));
  if (!Number.isNaN(asked)) return asked;
  const step = span.value / STEPS;
  return Math.floor((now.value - span.value * BEHIND) / step) * step;
});

export const range = computed((): Range => ({
  from: beginning.value,
  to: beginning.value + span.value,
}));

const asText = (at: number): string => new Date(at).toISOString().replace(/:\d\d\.\d{3}Z$/, 'Z');

export const showFrom = (at: number): void =>
  setParams({ from: asText(Math.round(at / 60_000) * 60_000) });

/** Moves by half of the span: 1 for later, -1 for earlier. */
export const move = (direction: 1 | -1): void =>
  showFrom(range.value.from + (direction * span.value) / 2);

export const followNow = (): void => setParams({ from: null });

/** One span closer (1) or wider (-1), around the middle unless it follows now. */
export function zoom(direction: 1 | -1): void {
  const i = SPANS.findIndex(([, , ms]) => ms >= span.value);
  const next =
    SPANS[Math.min(Math.max((i < 0 ? SPANS.length : i) - direction, 0), SPANS.length - 1)];
  if (next !== undefined) zoomTo(next[0], next[2]);
}

export function zoomTo(name: string, ms: number): void {
  const middle = range.value.from + span.value / 2;
  setParams({ span: name, ...(isFollowing.value ? {} : { from: asText(middle - ms / 2) }) });
}

/** From where on what will happen is asked for: this minute. What is overdue since stands among the schedules. */
export const ahead = computed((): number => {
  const { from, to } = range.value;
  return Math.min(Math.max(from, Math.floor(now.value / 60_000) * 60_000), to - 1);
});

/** Now, in steps of less than a pixel of the chart: bands change their look there. */
export const coarseNow = computed((): number => {
  const step = span.value / 1_000;
  return Math.floor(now.value / step) * step;
});
