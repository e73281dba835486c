import { problemOf, send } from '../data/request.ts';

/** Gives a text or bytes to the browser as a file. */
export function saveFile(blob: Blob, name: string): void {
  const url = URL.createObjectURL(blob);
  const link = document.createElement('a');
  link.href = url;
  link.download = name;
  link.click();
  // The browser has begun to read it by then.
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** The file's name that the server gives. */
export const nameOf = (answer: Response, otherwise: string): string =>
  /filename="([^"/\\]+)"/.exec(answer.headers.get('content-disposition') ?? '')?.[1] ?? otherwise;

/**
 * Asks for a file as the session's person: a plain link would lack the header without which the cookie isn't taken.
 *
 * @param accept the media type
 * @throws ApiError for a refusal
 */
export async function request(
  path: string,
  accept: string,
  signal?: AbortSignal,
): Promise<Response> {
  const answer = await send('GET', path, undefined, signal, accept);
  if (!answer.ok) throw await problemOf(answer);
  return answer;
}

/** As `812 kB`. */
export function sizeText(bytes: number): string {
  if (bytes < 1_000) return `${bytes} B`;
  return bytes < 1_000_000
    ? `${Math.round(bytes / 1_000)} kB`
    : `${(bytes / 1_000_000).toFixed(1)} MB`;
}
