import { ApiError, problemOf, send } from './request.ts';

/** A request of the REST API: what is sent, and what "Copy as curl" shows. */
export interface RestRequest {
  readonly method: 'POST' | 'PATCH' | 'DELETE';
  readonly path: string;
  readonly body: Readonly<Record<string, unknown>>;
}

/** The address of a flag, or of what is below it, as `/schedule`. */
export const flagAddress = (environment: string, flagKey: string, below = ''): string =>
  `/api/admin/flags/${encodeURIComponent(flagKey)}${below}?environment=${encodeURIComponent(environment)}`;

/** A reason as it is sent: blanks alone are none. */
export const reasonPart = (reason: string): { reason?: string } =>
  reason.trim() === '' ? {} : { reason: reason.trim() };

/**
 * Sends what changes nothing, as a dry run.
 *
 * @returns the answer's JSON
 * @throws ApiError with the problem's `errors` by field, and `current` where somebody else was faster
 */
export async function askRest({ method, path, body }: RestRequest): Promise<unknown> {
  const answer = await send(method, path, body);
  if (!answer.ok) throw await problemOf(answer);
  return answer.json().catch(() => null);
}

/** Sends it; otherwise as askRest. */
export async function sendRest(request: RestRequest): Promise<unknown> {
  try {
    return await askRest(request);
  } catch (error) {
    if (!(error instanceof ApiError) || error.code !== 'offline') throw error;
    throw new ApiError(
      'No answer came: it may have been done all the same. Look at it before you send it again.',
      error.code,
      0,
    );
  }
}
