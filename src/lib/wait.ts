import { setTimeout as delay } from 'node:timers/promises';

/** Waits, and resolves early, never rejecting, when the signal is raised. */
export async function sleep(ms: number, signal: AbortSignal): Promise<void> {
  await delay(ms, undefined, { signal }).catch((error: unknown) => {
    if (!signal.aborted) throw error;
  });
}

/**
 * Settles as `step` does, or rejects with the signal's reason as soon as that is raised.
 *
 * No race against one promise that stands for the loss: that would keep the handlers of every race for as long as a
 * connection stands.
 */
export async function raceAbort<T>(step: Promise<T>, signal: AbortSignal): Promise<T> {
  const aborted = Promise.withResolvers<never>();
  const abort = () => aborted.reject(signal.reason);
  if (signal.aborted) abort();
  signal.addEventListener('abort', abort, { once: true });
  try {
    return await Promise.race([aborted.promise, step]);
  } finally {
    signal.removeEventListener('abort', abort);
  }
}

/**
 * Runs `work`, and rejects once `ms` milliseconds have passed (with `expired` as the message) or `signal` aborts (with its
 * reason). The work gets a signal that is raised then.
 *
 * @throws the work's own error otherwise
 */
export async function withDeadline<T>(
  work: (signal: AbortSignal) => Promise<T>,
  ms: number,
  expired: string,
  signal?: AbortSignal,
): Promise<T> {
  signal?.throwIfAborted();
  // Not AbortSignal.timeout, whose timer can't be stopped and would outlive every quick call.
  const deadline = new AbortController();
  const timer = setTimeout(() => deadline.abort(new Error(expired)), ms);
  const stop = AbortSignal.any([deadline.signal, ...(signal === undefined ? [] : [signal])]);
  try {
    return await raceAbort(work(stop), stop);
  } finally {
    clearTimeout(timer);
  }
}

/** Waits for work that may never end, but no longer than this; whether it ended. A rejection is passed on. */
export async function settlesWithin(ms: number, work: Promise<unknown>): Promise<boolean> {
  const timer = new AbortController();
  try {
    return await Promise.race([work.then(() => true), sleep(ms, timer.signal).then(() => false)]);
  } finally {
    timer.abort();
  }
}

/** Longer delays of a timer overflow to none. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/**
 * Calls back once the clock has reached a time, at once if it has already.
 *
 * @param time seconds since 1970
 * @returns calls it off
 */
export function atTime(time: number, call: () => void): () => void {
  let timer: NodeJS.Timeout | undefined;
  const check = () => {
    const left = time * 1_000 - Date.now();
    if (left <= 0) call();
    else timer = setTimeout(check, Math.min(left, MAX_TIMER_MS));
  };
  check();
  return () => clearTimeout(timer);
}
