import { inject } from 'vitest';

declare module 'vitest' {
  interface ProvidedContext {
    /** short: in every run of the tests; full: `npm run test:long`. */
    chaosForm: 'short' | 'full';
  }
}

/** One of two values, by the form in which the tests run. */
export function byForm<T>(values: { short: T; full: T }): T {
  return values[inject('chaosForm')];
}

export const isFull = (): boolean => inject('chaosForm') === 'full';
