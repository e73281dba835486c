import type { Source } from '../plans/requests.ts';
import type { FlagName } from '../schedules/requests.ts';
import type { Entry } from './entry.ts';

/** The next microsecond: a span that ends with it has one event, and no later one. */
export function afterMicrosecond(at: string): string {
  const fraction = (/\.(\d+)/.exec(at)?.[1] ?? '').padEnd(6, '0').slice(0, 6);
  const next = (Number(fraction) + 1) % 1_000_000;
  const second = Math.floor(Date.parse(at) / 1_000) * 1_000 + (next === 0 ? 1_000 : 0);
  return new Date(second).toISOString().replace('000Z', `${String(next).padStart(6, '0')}Z`);
}

/**
 * What of a flag's history can be taken back: what a schedule changed, or the one change that an admin made. Null where nothing changed, and
 * where the trail isn't read.
 */
export function sourceOf(flag: FlagName, entry: Entry): Source | null {
  const { before, after, event, scheduleId, kind } = entry;
  if (event === null || before === null || after === null || kind !== 'change') return null;
  const { environment, flagKey } = flag;
  if (scheduleId !== null) return { kind: 'schedule', id: scheduleId, flagKey, environment };
  const { occurredAt: from } = event;
  return { kind: 'span', environment, from, to: afterMicrosecond(from), flags: [flagKey] };
}
