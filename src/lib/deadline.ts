import { orAborted } from './abort.ts';

/**
 * Runs `work`, and rejects as soon as `signal` aborts (with its reason) or `ms` milliseconds have
 * passed (with `expired` as the message). What the work still does then is up to it: it gets a
 * signal that tells.
 *
 * @throws the work's own error otherwise
 */
export async function withDeadline<T>(
  work: (signal: AbortSignal) => Promise<T>,
  signal: AbortSignal,
  ms: number,
  expired: string,
): Promise<T> {
  signal.throwIfAborted();
  // By hand instead of AbortSignal.timeout, whose timer can't be stopped and would outlive every
  // quick call.
  const stop = new AbortController();
  const forward = () => stop.abort(signal.reason);
  const timer = setTimeout(() => stop.abort(new Error(expired)), ms);
  signal.addEventListener('abort', forward, { once: true });
  try {
    return await orAborted(work(stop.signal), stop.signal);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', forward);
  }
}
