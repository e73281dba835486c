import type { RequestHandler } from 'express';
import { scrub, type Logger } from '../lib/log.ts';
import { shorten } from '../lib/printable.ts';
import { requestIdsOf } from './request_id.ts';

/** Probes ask these every few seconds. */
const UNLOGGED = new Set(['/healthz', '/readyz']);

/**
 * One line for each request, once it is answered or its client is gone, and `request.log`, whose lines carry the request's ids.
 * Method, path, status and time only: headers and queries may hold tokens. Always info: what failed is logged where it failed.
 */
export function makeAccessLog(log: Logger): RequestHandler {
  // None of these fields is one that is redacted, and looking for those takes longer than all the rest of a line. What looks
  // like a token is taken out of this line as of any.
  const access = log.child({}, { redact: [] });
  return (request, response, next) => {
    const ids = requestIdsOf(request);
    (request as { log?: Logger }).log = log.child(ids);
    const { method } = request;
    const path = request.originalUrl.split('?', 1)[0] ?? '';
    const startedAt = performance.now();
    response.once('close', () => {
      if (UNLOGGED.has(path)) return;
      const status = response.writableFinished ? response.statusCode : null;
      const responseTime = Math.round(performance.now() - startedAt);
      access.info({ ...ids, method, path: loggable(path), status, responseTime }, 'request');
    });
    next();
  };
}

/** How often a path is decoded, at most, to find a token in it. */
const MAX_DECODINGS = 8;

/** Characters of a path that are logged. The longest that Halyard has takes some 300; a client without a token may send 16,000. */
const MAX_PATH = 500;

/** A path as it is logged, its beginning if it is long: as the client sent it, unless a token shows in it once its percent-encodings are read. */
function loggable(path: string): string {
  let decoded = path;
  for (let n = 0; n < MAX_DECODINGS && decoded.includes('%'); n++) {
    const before = decoded;
    decoded = decoded.replace(/%([0-7][\da-f])/gi, (_, hex: string) =>
      String.fromCharCode(Number.parseInt(hex, 16)),
    );
    if (decoded === before) break;
  }
  const scrubbed = scrub(decoded);
  return shorten(scrubbed === decoded ? path : scrubbed, MAX_PATH);
}
