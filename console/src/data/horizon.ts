import { signal } from '@preact/signals';
import type { ApiError } from './request.ts';

/** Up to when the trail was purged, in milliseconds since 1970; 0 until the server has refused a question about before. */
export const horizon = signal(0);

/** Where a question about the past begins: the server refuses what lies before the horizon. */
export const sinceHorizon = (from: number): number => Math.max(from, horizon.value);

/** Learns the horizon from the refusal that names it. */
export function learnHorizon({ code, message }: ApiError): void {
  const [named = ''] = /\d{4}-\d\d-\d\dT[\d:.]+Z/.exec(message) ?? [];
  // The browser cuts microseconds off.
  if (code === 'history_purged' && named !== '') horizon.value = Date.parse(named) + 1;
}
