import type { Request, Response, Router } from 'express';
import express from 'express';
import type pg from 'pg';

import {
  beginExport,
  isEmpty,
  makeEventReader,
  PAGE_BYTES,
  rangeBehind,
  type EventReader,
  type Transaction,
} from './export.ts';
import { FORMATS, jsonOf, largeJsonOf, textOf } from './format.ts';
import { makePlaces, type ExportLimits } from './places.ts';
import type { EventRow } from './query.ts';
import { CutOffError, makeSender, type Sender } from './sender.ts';
import { AuthenticationError, claimsOf } from '../../auth/auth.ts';
import { userKey } from '../../auth/claims.ts';
import { transactionAs } from '../../postgres/transaction.ts';
import { ProblemError, problemOf } from '../../lib/errors.ts';
import type { Logger } from '../../lib/log.ts';
import {
  exportAuditEventsQuerySchema,
  listAuditEventsQuerySchema,
  type ListAuditEventsQuery,
} from './schemas.ts';
import { linkNext } from '../../http/page.ts';
import { logProblem, onlyMethods, parse } from '../../http/problems.ts';
import { requestIdOf } from '../../http/request_id.ts';

/** After so long without an event a follower gets a blank line, so that nobody on the way takes the connection for dead. */
const KEEP_ALIVE_MS = 15_000;
/** How long a page of JSON is searched for; then it is shorter than it might be, and links on. */
const SEARCH_MS = 5_000;

const FORMAT_BY_TYPE = {
  'application/json': 'json',
  'application/x-ndjson': 'ndjson',
  'text/csv': 'csv',
} as const;
type Streamed = keyof typeof FORMATS;
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
        transactionAs(pool, claims, requestIdOf(request), work, asking),
      );
  }

  async function stream(request: Request, response: Response, format: Streamed): Promise<void> {
    const { follow: asked, ...query } = parse(exportAuditEventsQuerySchema, request.query);
    const follow = asked === 'true';
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
      const last = await beginExport(transaction, format, query, follow);
      // Finds a client that went without a word, while there is nothing to send.
      if (follow) request.socket.setKeepAlive(true, KEEP_ALIVE_MS);
      const signal = AbortSignal.any([sender.ended, ending]);
      const life = follow ? { signal, isOver: sender.isExpired } : undefined;
      const reader = makeEventReader(transaction, query, last, life);
      await sendStream({ response, format, reader, sender, follow });
    } catch (error) {
      if (response.headersSent) breakOff(request, response, sender, error);
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
          await sendPage({ transaction, request, response, writeMs: limits.streamWriteMs }, query);
        }
      } else await stream(request, response, format);
    })
    .all(onlyMethods('GET'));

  return router;
}

interface PageRequest {
  readonly transaction: Transaction;
  readonly request: Request;
  readonly response: Response;
  readonly writeMs: number;
}

/** A page of JSON; the next one is linked, up to what was the end of the trail when the first was asked for. */
async function sendPage(
  { transaction, request, response, writeMs }: PageRequest,
  query: ListAuditEventsQuery,
): Promise<void> {
  const { limit, ...filters } = query;
  const last = await beginExport(transaction, 'json', query, false);
  const reader = makeEventReader(transaction, { ...filters, limit: limit + 1 }, last);
  const found = await readPage(reader);
  const { rows, isLarge } = found;
  let { remaining } = found;
  const events = rows.slice(0, limit);
  if (rows.length > limit)
    remaining = rangeBehind(remaining, query.order ?? 'asc', Number(events.at(-1)?.seq));
  if (!isEmpty(remaining))
    linkNext(request, response, { after: String(remaining.after), until: String(remaining.until) });
  const [first] = events;
  response.type('json');
  if (!isLarge || first === undefined) {
    response.send(`[${events.map(jsonOf).join(',')}]`);
    return;
  }
  const sender = makeSender(response, { writeMs, expiresAt: claimsOf(request).expiresAt });
  try {
    await sender.send('[');
    await sender.send(largeJsonOf(first, (...what) => reader.pieces(...what)));
    await sender.send(']');
    await sender.end();
  } catch (error) {
    breakOff(request, response, sender, error);
  }
}

/** Reads until there is enough for a page: rows, bytes, or time. A large event is a page of its own. */
async function readPage(reader: EventReader) {
  const rows: EventRow[] = [];
  const begun = performance.now();
  let { remaining } = reader;
  let bytes = 0;
  while (bytes < PAGE_BYTES && performance.now() - begun < SEARCH_MS) {
    const page = await reader.next();
    if (page === undefined || (page.isLarge && rows.length > 0)) break;
    rows.push(...page.rows);
    ({ remaining } = reader);
    if (page.isLarge) return { rows, isLarge: true, remaining };
    bytes += page.bytes;
  }
  return { rows, isLarge: false, remaining };
}

/** The role, before anything is written to the trail; the policies and grants stand behind it. */
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

function startStream(response: Response, format: Streamed): void {
  response.setHeader('Content-Type', FORMATS[format].mediaType);
  response.setHeader('Content-Disposition', `attachment; filename="audit-events.${format}"`);
  // Proxies of nginx's kind would collect what a follower waits for.
  response.setHeader('X-Accel-Buffering', 'no');
}

interface Streaming {
  readonly response: Response;
  readonly format: Streamed;
  readonly reader: EventReader;
  readonly sender: Sender;
  readonly follow: boolean;
}

/**
 * Sends all pages. The head goes out only with the first, so that what is wrong with that can still be answered. Of a page only its
 * text is kept while the client reads: 60 clients that don't read must not keep the rows of 60 pages.
 */
async function sendStream({ response, format, reader, sender, follow }: Streaming): Promise<void> {
  const { head } = FORMATS[format];
  let sentAt = performance.now();

  async function nextText(): Promise<string | AsyncIterable<string> | undefined> {
    const page = await reader.next();
    if (page === undefined) return undefined;
    const keepAlive = performance.now() - sentAt > KEEP_ALIVE_MS ? FORMATS[format].keepAlive : '';
    return textOf(FORMATS[format], page, (...what) => reader.pieces(...what), keepAlive);
  }

  /** @returns whether there may be more */
  async function sendNext(): Promise<boolean> {
    const text = await nextText();
    if (!response.headersSent) {
      startStream(response, format);
      if (follow) response.flushHeaders();
      await sender.send(head);
    }
    if (text === undefined) return false;
    if (text === '') return true;
    await sender.send(text);
    sentAt = performance.now();
    return true;
  }

  while (await sendNext()) {
    // An export has an end that its client counts on: half of one is an error. A follower has all up to here.
    if (!follow) sender.requireGoing();
  }
  await sender.end();
}

/** Half an answer is out: the connection ends without the mark of a whole one, so that nobody takes it for that. */
function breakOff(request: Request, response: Response, sender: Sender, error: unknown): void {
  const { log } = request as unknown as { log: Logger };
  if (!(error instanceof CutOffError)) {
    logProblem(log, problemOf(error), error);
    response.destroy();
  } else if (error.isGone || response.destroyed) log.debug('the client went away');
  else {
    log.warn({ reason: error.message }, 'an export was cut off');
    sender.cutOff();
  }
}
