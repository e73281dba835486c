import type { Response } from 'express';

import { atTime, raceAbort } from '../../lib/wait.ts';

/** Why an answer was cut off, for the log: what the client has is not all, and it gets an error. */
export class CutOffError extends Error {
  override readonly name = 'CutOffError';
}

/** Bytes that are handed to the socket at a time. */
const SLICE = 2 ** 16;

/**
 * Sends an answer no faster than its client reads, and not for longer than its token is good. What waits to be read is 64 kB,
 * beside the text that is being sent.
 *
 * @param options.writeMs milliseconds after which a client that has read nothing is cut off
 * @param options.expiresAt the token's end in seconds since 1970; null for none
 */
export function makeSender(
  response: Response,
  { writeMs, expiresAt }: { readonly writeMs: number; readonly expiresAt: number | null },
) {
  const cut = new AbortController();
  const expired = new AbortController();
  response.once('close', () => {
    cut.abort(new CutOffError('The client went away.'));
  });
  const isExpired = () => expiresAt !== null && expiresAt * 1_000 <= Date.now();
  if (expiresAt !== null)
    response.once(
      'close',
      atTime(expiresAt, () => expired.abort()),
    );

  /** Waits for the client, until the token's end. */
  async function waitFor(event: 'drain' | 'finish'): Promise<void> {
    const happened = Promise.withResolvers<undefined>();
    const onEvent = () => happened.resolve(undefined);
    const onExpiry = () => cut.abort(new CutOffError('Its token expired.'));
    const onStall = () => cut.abort(new CutOffError(`Its client read nothing for ${writeMs} ms.`));
    const timer = setTimeout(onStall, writeMs);
    response.once(event, onEvent);
    expired.signal.addEventListener('abort', onExpiry);
    try {
      await raceAbort(happened.promise, cut.signal);
    } finally {
      clearTimeout(timer);
      response.off(event, onEvent);
      expired.signal.removeEventListener('abort', onExpiry);
    }
  }

  function requireGoing(): void {
    if (isExpired()) throw new CutOffError('Its token expired.');
    cut.signal.throwIfAborted();
  }

  async function write(text: string): Promise<void> {
    // Outside of the heap, and each part of it goes with the text, once that is sent.
    const bytes = Buffer.from(text);
    for (let at = 0; at < bytes.length; at += SLICE) {
      requireGoing();
      if (!response.write(bytes.subarray(at, at + SLICE))) await waitFor('drain');
    }
  }

  return {
    /** Raised when the client is gone or the token expires. */
    ended: AbortSignal.any([cut.signal, expired.signal]),
    isExpired,
    /** @throws CutOffError when the client is gone or stalls, or the token expires */
    requireGoing,
    /** Resolves once the client has taken nearly all of it. @throws as `requireGoing` */
    async send(text: string | AsyncIterable<string>): Promise<void> {
      if (typeof text === 'string') return write(text);
      for await (const piece of text) await write(piece);
    },
    /** Marks the answer as whole, and resolves once it is sent. @throws as `requireGoing` */
    async end(): Promise<void> {
      cut.signal.throwIfAborted();
      const finished = waitFor('finish');
      response.end();
      await finished;
    },
    /** Ends the connection without the mark of a whole answer: the client gets an error, and nothing more of what waited for it. */
    cutOff(): void {
      response.socket?.resetAndDestroy();
      response.destroy();
    },
  };
}

export type Sender = ReturnType<typeof makeSender>;
