/**
 * Settles as `step` does, or rejects with the signal's reason as soon as that is raised.
 *
 * This is not a race against a promise that stands for the loss: each race leaves its handlers, and what it resolved to,
 * with such a promise until that settles, and a connection may stand for months.
 */
export async function orAborted<T>(step: Promise<T>, signal: AbortSignal): Promise<T> {
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
