import { pipeline } from 'node:stream/promises';

import type { Request, Response, Router } from 'express';
import express from 'express';
import type pg from 'pg';

import {
  beginExport,
  isEmpty,
  rangeBehind,
  readEvents,
  type Follow,
  type Page,
  type Transaction,
} from './export.ts';
import { FORMATS, jsonOf, type TextFormat } from './format.ts';
import type { EventRow, SeqRange } from './query.ts';
import { claimsOf } from '../../auth/auth.ts';
import { transactionAs } from '../../postgres/transaction.ts';
import { ProblemError, problemOf } from '../../lib/errors.ts';
import type { Logger } from '../../lib/log.ts';
import { exportAuditEventsQuerySchema, listAuditEventsQuerySchema } from './schemas.ts';
import { linkNext } from '../../http/page.ts';
import { logProblem, onlyMethods, parse } from '../../http/problems.ts';
import { requestIdOf } from '../../http/request_id.ts';

/** Clients that wait for new events at one process: each asks the database twice a second. */
const MOST_FOLLOWERS = 20;
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

/** What a pipeline says when the client is no longer there. */
const GONE: ReadonlySet<string> = new Set([
  'ERR_STREAM_PREMATURE_CLOSE',
  'ERR_STREAM_DESTROYED',
  'ERR_STREAM_UNABLE_TO_PIPE',
]);

/**
 * /audit/events: copies of the trail, for admins and auditors as row-level security lets them see it.
 *
 * @param ending raised when the server is about to stop: those who wait for new events have all that there are
 */
export function makeAuditRoutes(pool: pg.Pool, ending: AbortSignal): Router {
  const router = express.Router();
  let followers = 0;

  async function stream(request: Request, response: Response, format: Streamed): Promise<void> {
    const { follow: asked, ...query } = parse(exportAuditEventsQuerySchema, request.query);
    const follow = asked === 'true';
    if (request.method === 'HEAD') {
      startStream(response, format);
      response.end();
      return;
    }
    if (follow && followers >= MOST_FOLLOWERS)
      throw new ProblemError(
        'too_many_streams',
        `No more than ${MOST_FOLLOWERS} clients can wait for events at one process: try again later.`,
      );
    const life = makeLife(request, response, ending);
    followers += follow ? 1 : 0;
    try {
      const transaction = transactionOf(pool, request);
      const last = await beginExport(transaction, format, query, follow);
      const pages = readEvents(transaction, query, last, follow ? life : undefined);
      // Before the head of the answer, so that what is wrong with the first page can still be told.
      const first = await pages.next();
      startStream(response, format);
      if (follow) response.flushHeaders();
      await pipeline(textOf(FORMATS[format], first, pages), response);
    } catch (error) {
      if (!response.headersSent) throw error;
      breakOff(request, response, error);
    } finally {
      followers -= follow ? 1 : 0;
    }
  }

  router
    .route('/audit/events')
    .get(async (request, response) => {
      requireReader(request);
      response.vary('Accept');
      const format = formatOf(request);
      if (format === 'json') await sendPage(pool, request, response);
      else await stream(request, response, format);
    })
    .all(onlyMethods('GET'));

  return router;
}

/** A page of JSON; the next one is linked, up to what was the end of the trail when the first was asked for. */
async function sendPage(pool: pg.Pool, request: Request, response: Response): Promise<void> {
  const { limit, ...query } = parse(listAuditEventsQuerySchema, request.query);
  if (request.method === 'HEAD') {
    response.type('json').end();
    return;
  }
  const transaction = transactionOf(pool, request);
  const last = await beginExport(transaction, 'json', { ...query, limit }, false);
  const rows: EventRow[] = [];
  let remaining: SeqRange = { after: 0, until: 0 };
  const begun = performance.now();
  for await (const page of readEvents(transaction, { ...query, limit: limit + 1 }, last)) {
    rows.push(...page.rows);
    ({ remaining } = page);
    if (performance.now() - begun > SEARCH_MS) break;
  }
  const events = rows.slice(0, limit);
  if (rows.length > limit)
    remaining = rangeBehind(remaining, query.order ?? 'asc', Number(events.at(-1)?.seq));
  if (!isEmpty(remaining))
    linkNext(request, response, { after: String(remaining.after), until: String(remaining.until) });
  response.type('json').send(`[${events.map(jsonOf).join(',')}]`);
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

function transactionOf(pool: pg.Pool, request: Request): Transaction {
  const claims = claimsOf(request);
  return (work) => transactionAs(pool, claims, requestIdOf(request), work);
}

function startStream(response: Response, format: Streamed): void {
  response.setHeader('Content-Type', FORMATS[format].mediaType);
  response.setHeader('Content-Disposition', `attachment; filename="audit-events.${format}"`);
  // Proxies of nginx's kind would collect what a follower waits for.
  response.setHeader('X-Accel-Buffering', 'no');
}

/** The text of the pages, as it is sent: one chunk a page, none for an empty one. */
async function* textOf(
  format: TextFormat,
  first: IteratorResult<Page, void>,
  pages: AsyncGenerator<Page, void, undefined>,
): AsyncGenerator<string, void, undefined> {
  if (format.head !== '') yield format.head;
  let sentAt = performance.now();
  try {
    for (let next = first; next.done !== true; next = await pages.next()) {
      const idle = performance.now() - sentAt > KEEP_ALIVE_MS;
      const text = format.textOf(next.value.rows) || (idle ? format.keepAlive : '');
      if (text === '') continue;
      yield text;
      sentAt = performance.now();
    }
  } finally {
    await pages.return();
  }
}

/** How long a client waits for events: until it goes, its token expires or the server stops. */
function makeLife(request: Request, response: Response, ending: AbortSignal): Follow {
  const { expiresAt } = claimsOf(request);
  const gone = new AbortController();
  response.once('close', () => gone.abort());
  // Finds a client that went without a word, while there is nothing to send.
  request.socket.setKeepAlive(true, KEEP_ALIVE_MS);
  return {
    signal: AbortSignal.any([gone.signal, ending]),
    isOver: () => expiresAt !== null && expiresAt * 1_000 <= Date.now(),
  };
}

/** Half an answer is out: the connection ends without the mark of a whole one, so that nobody takes it for that. */
function breakOff(request: Request, response: Response, error: unknown): void {
  const { log } = request as unknown as { log: Logger };
  const gone = error instanceof Error && 'code' in error && GONE.has(String(error.code));
  if (gone) log.debug('the client went away');
  else logProblem(log, problemOf(error), error);
  response.destroy();
}
