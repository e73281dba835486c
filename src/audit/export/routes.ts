import type { Request, Response, Router } from 'express';
import express from 'express';
import type pg from 'pg';

import { beginExport, makeEventReader, type Transaction } from './export.ts';
import { sendPage } from './json_page.ts';
import { makePlaces, type ExportLimits } from './places.ts';
import { makeSender } from './sender.ts';
import { abortResponse, KEEP_ALIVE_MS, sendStream, startStream, type Streamed } from './stream.ts';
import { AuthenticationError, claimsOf } from '../../auth/auth.ts';
import { userKey } from '../../auth/claims.ts';
import { transactionAs } from '../../postgres/transaction.ts';
import { ProblemError } from '../../lib/errors.ts';
import { exportAuditEventsQuerySchema, listAuditEventsQuerySchema } from './schemas.ts';
import { onlyMethods, parse } from '../../http/problems.ts';
import { requestIdsOf } from '../../http/request_id.ts';

const FORMAT_BY_TYPE = {
  'application/json': 'json',
  'application/x-ndjson': 'ndjson',
  'text/csv': 'csv',
} as const;
const MEDIA_TYPES = Object.keys(FORMAT_BY_TYPE) as (keyof typeof FORMAT_BY_TYPE)[];

/**
 * /audit/events: copies of the trail, for admins and auditors as row-level security lets them see it.
 *
 * @param ending raised when the server is about to stop: those who wait for new events have all that there are
 */
export function makeAuditRoutes(pool: pg.Pool, limits: ExportLimits, ending: AbortSignal): Router {
  const router = express.Router();
  const places = makePlaces(limits);

  /** @param isLimited whether the request is refused where too many of its user wait; else its turn comes in any case */
  function transactionOf(request: Request, response: Response, isLimited: boolean): Transaction {
    const claims = claimsOf(request);
    const asking = { isLimited, client: response };
    return (work) =>
      places.read(userKey(claims), response, () =>
        transactionAs(pool, claims, requestIdsOf(request), work, asking),
      );
  }

  async function stream(request: Request, response: Response, format: Streamed): Promise<void> {
    const { follow: text, ...query } = parse(exportAuditEventsQuerySchema, request.query);
    const follow = text === 'true';
    if (request.method === 'HEAD') {
      startStream(response, format);
      response.end();
      return;
    }
    const claims = claimsOf(request);
    const closePlace = places.openStream(userKey(claims));
    const sender = makeSender(response, {
      writeMs: limits.streamWriteMs,
      expiresAt: claims.expiresAt,
    });
    try {
      const transaction = transactionOf(request, response, false);
      const { last } = await beginExport(transaction, format, query, follow);
      // Finds a client that went without a word, while there is nothing to send.
      if (follow) request.socket.setKeepAlive(true, KEEP_ALIVE_MS);
      const signal = AbortSignal.any([sender.ended, ending]);
      const life = follow ? { signal, isOver: sender.isExpired } : undefined;
      const reader = makeEventReader(transaction, query, last, life);
      await sendStream(response, format, reader, sender, follow);
    } catch (error) {
      if (response.headersSent) abortResponse(request, response, sender, error);
      // It was let in for the clocks' tolerance.
      else throw sender.isExpired() ? new AuthenticationError('token_expired') : error;
    } finally {
      closePlace();
    }
  }

  router
    .route('/audit/events')
    .get(async (request, response) => {
      requireReader(request);
      response.vary('Accept');
      const format = formatOf(request);
      if (format === 'json') {
        const query = parse(listAuditEventsQuerySchema, request.query);
        if (request.method === 'HEAD') response.type('json').end();
        else {
          await places.openPage(userKey(claimsOf(request)), response);
          const transaction = transactionOf(request, response, true);
          await sendPage(request, response, transaction, query, limits.streamWriteMs);
        }
      } else await stream(request, response, format);
    })
    .all(onlyMethods('GET'));

  return router;
}

/** Checks the role before anything is written to the trail; policies and grants are the net under it. */
function requireReader(request: Request): void {
  const { role } = claimsOf(request);
  if (role !== 'admin' && role !== 'auditor')
    throw new ProblemError('forbidden', 'This takes the token of an admin or an auditor.');
}

function formatOf(request: Request): 'json' | Streamed {
  const accepted = request.accepts(MEDIA_TYPES);
  const type = MEDIA_TYPES.find((mediaType) => mediaType === accepted);
  if (type === undefined)
    throw new ProblemError('not_acceptable', `Send Accept: ${MEDIA_TYPES.join(', ')}, or none.`);
  return FORMAT_BY_TYPE[type];
}
