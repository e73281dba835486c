import type { Answered } from '../load.ts';
import { percentile } from '../measure.ts';

/**
 * A load's process: the first message is its options, each later one a task. An error ends it, and so does the end of the
 * process that started it.
 */
export function serve(
  prepare: (options: never) => Promise<(task: never) => Promise<unknown>>,
): void {
  let run: ((task: never) => Promise<unknown>) | undefined;
  process.on('message', (message) => {
    void (async () => {
      if (run === undefined) {
        run = await prepare(message as never);
        process.send?.('ready');
      } else process.send?.(await run(message as never));
    })();
  });
  process.once('disconnect', () => process.exit());
}

/** Counts answers, from the first that came to the last: neither connecting nor ending is part of it. */
export function makeCounter(): {
  /** @param ms how long the answer took */
  count(ms: number): void;
  /** @throws RangeError when there were less than two answers */
  answered(): Answered;
} {
  const times: number[] = [];
  let first = 0;
  let last = 0;
  return {
    count(ms) {
      last = performance.now();
      if (times.length === 0) first = last;
      times.push(ms);
    },
    answered() {
      if (times.length < 2) throw new RangeError('There were too few answers to count.');
      return {
        perSecond: (1_000 * (times.length - 1)) / (last - first),
        p50: percentile(times, 50),
        p99: percentile(times, 99),
      };
    },
  };
}
