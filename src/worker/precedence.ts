import { pause } from '../lib/sleep.ts';

/** What goes first in a process when there is more to do than it has time for. */
export interface Precedence {
  /** Does work that others are to wait for. */
  first<T>(work: () => Promise<T>): Promise<T>;
  /** Resolves once no such work is being done, or after `ms`. Never rejects. */
  others(ms: number): Promise<void>;
}

/** Of several works at once, the last one to end lets the others go on. */
export function makePrecedence(): Precedence {
  let working = 0;
  let over = Promise.withResolvers<undefined>();
  over.resolve(undefined);
  return {
    async first(work) {
      if (working++ === 0) over = Promise.withResolvers<undefined>();
      try {
        return await work();
      } finally {
        if (--working === 0) over.resolve(undefined);
      }
    },
    async others(ms) {
      const enough = new AbortController();
      await Promise.race([over.promise, pause(ms, enough.signal)]);
      enough.abort();
    },
  };
}
