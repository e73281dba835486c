import { setTimeout as delay } from 'node:timers/promises';

/** Waits, and resolves early, never rejecting, when the signal is raised. */
export async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await delay(ms, undefined, { signal }).catch((error: unknown) => {
    if (!signal.aborted) throw error;
  });
}
