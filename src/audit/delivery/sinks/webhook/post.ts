import http, { type IncomingMessage } from 'node:http';
import https from 'node:https';
import type { LookupFunction } from 'node:net';
import { isErrno } from '../../../../lib/errno.ts';
import { withDeadline } from '../../../../lib/wait.ts';

/** For one attempt, from the lookup of the name to the status. */
const ATTEMPT_MS = 10_000;
/** Of an answer's body, which is thrown away: a longer or slower one costs the connection. */
const MAX_BODY_BYTES = 65_536;
const MAX_BODY_MS = 1_000;

export interface Answer {
  readonly status: number;
  /** Milliseconds until the destination wants to be asked again; null when it doesn't say. */
  readonly retryInMs: number | null;
}

/**
 * Posts to one address, over connections that stay open. Redirects aren't followed. What comes with or behind the status doesn't count:
 * the receiver has decided by then.
 *
 * @param lookup by which names are resolved; the system's by default
 */
export function makePoster(url: URL, lookup?: LookupFunction, attemptMs = ATTEMPT_MS) {
  const { Agent, request: makeRequest } = url.protocol === 'https:' ? https : http;
  const agent = new Agent({ keepAlive: true, ...(lookup && { lookup }) });
  const expired = `No answer within ${attemptMs} ms`;

  function attempt(headers: Record<string, string>, body: string, signal: AbortSignal) {
    const { promise, resolve, reject } = Promise.withResolvers<Answer>();
    const request = makeRequest(url, { agent, headers, method: 'POST', signal });
    request.on('error', (error) => {
      // The receiver had closed an idle connection just then.
      if (request.reusedSocket && isErrno(error) && error.code === 'ECONNRESET')
        attempt(headers, body, signal).then(resolve, reject);
      else reject(error);
    });
    request.on('response', (response) => {
      const { statusCode: status = 0 } = response;
      const retryInMs = readRetryAfter(response.headers['retry-after']);
      // A promise is settled once: an error behind the status changes nothing.
      const done = () => resolve({ status, retryInMs });
      request.removeAllListeners('error').on('error', done);
      discard(response, done);
    });
    request.end(body);
    return promise;
  }

  return {
    /** @throws the connection's error, the signal's reason, or Error when there was no answer in time */
    post: (headers: Record<string, string>, body: string, signal: AbortSignal): Promise<Answer> =>
      withDeadline((within) => attempt(headers, body, within), attemptMs, expired, signal),
    close: () => agent.destroy(),
  };
}

/** Reads a body to its end, or until it is too much, so that the connection can be used again. */
function discard(response: IncomingMessage, done: () => void): void {
  let bytes = 0;
  const timer = setTimeout(() => response.destroy(), MAX_BODY_MS);
  response.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes > MAX_BODY_BYTES) response.destroy();
  });
  response.on('error', done);
  response.on('close', () => {
    clearTimeout(timer);
    done();
  });
}

/** Retry-After as RFC 9110 has it, in seconds or as a date; null for anything else. */
export function readRetryAfter(text: string | undefined, now = Date.now()): number | null {
  if (text === undefined) return null;
  const ms = /^\d{1,9}$/.test(text) ? Number(text) * 1_000 : Date.parse(text) - now;
  return Number.isNaN(ms) ? null : Math.max(0, ms);
}
