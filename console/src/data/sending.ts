import { useState } from 'preact/hooks';
import { type ApiError, errorOf } from './request.ts';

const STALE = ['flag_changed', 'schedule_changed', 'plan_changed'];

/** Whether somebody else changed it since it was read. */
export const isStale = (error: ApiError | null): boolean =>
  error !== null && STALE.includes(error.code);

/** The revision that a refusal names as the present one; null where it names none. */
export function currentRevision(error: ApiError | null): number | null {
  const current = error?.details.current;
  const revision =
    typeof current === 'object' && current !== null && 'revision' in current
      ? current.revision
      : null;
  return typeof revision === 'number' ? revision : null;
}

/** Sends what a form says, once at a time. A refusal stays in the form until it is sent again. */
export function useSending() {
  const [isBusy, setBusy] = useState(false);
  const [error, setError] = useState<ApiError | null>(null);
  return {
    isBusy,
    error,
    forget: () => setError(null),
    /** @returns whether it was done */
    send: async (work: () => Promise<unknown>): Promise<boolean> => {
      if (isBusy) return false;
      setBusy(true);
      setError(null);
      try {
        await work();
        return true;
      } catch (failure) {
        setError(errorOf(failure));
        return false;
      } finally {
        setBusy(false);
      }
    },
  };
}

export type Sending = ReturnType<typeof useSending>;
