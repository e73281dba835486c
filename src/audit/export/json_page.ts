import type { Request, Response } from 'express';

import { claimsOf } from '../../auth/auth.ts';
import { linkNext } from '../../http/page.ts';
import {
  beginExport,
  isEmpty,
  makeEventReader,
  PAGE_BYTES,
  rangeBehind,
  type EventReader,
  type Transaction,
} from './export.ts';
import { jsonOf, largeJsonOf } from './format.ts';
import type { EventRow } from './query.ts';
import type { ListAuditEventsQuery } from './schemas.ts';
import { makeSender } from './sender.ts';
import { abortResponse } from './stream.ts';

/** How long a page of JSON is searched for; then it is shorter than it might be, and links on. */
const SEARCH_MS = 5_000;

/** A page of JSON; the next one is linked, up to what was the end of the trail at the first. */
export async function sendPage(
  request: Request,
  response: Response,
  transaction: Transaction,
  query: ListAuditEventsQuery,
  writeMs: number,
): Promise<void> {
  const { limit, export: continued, ...filters } = query;
  const given = { ...filters, limit };
  const { id, last } = await beginExport(transaction, 'json', given, false, continued);
  const reader = makeEventReader(transaction, { ...filters, limit: limit + 1 }, last);
  const { rows, isLarge, unread } = await readPage(reader);
  const events = rows.slice(0, limit);
  const remaining =
    rows.length > limit
      ? rangeBehind(unread, query.order ?? 'asc', Number(events.at(-1)?.seq))
      : unread;
  if (!isEmpty(remaining))
    linkNext(request, response, {
      after: String(remaining.after),
      until: String(remaining.until),
      export: id,
    });
  const [first] = events;
  response.type('json');
  if (!isLarge || first === undefined) {
    response.send(`[${events.map(jsonOf).join(',')}]`);
    return;
  }
  const sender = makeSender(response, { writeMs, expiresAt: claimsOf(request).expiresAt });
  try {
    await sender.send('[');
    await sender.send(largeJsonOf(first, reader.pieces));
    await sender.send(']');
    await sender.end();
  } catch (error) {
    abortResponse(request, response, sender, error);
  }
}

/** Reads until there is enough for a page: rows, bytes, or time. A large event is a page of its own. */
async function readPage(reader: EventReader) {
  const rows: EventRow[] = [];
  const startedAt = performance.now();
  let { remaining: unread } = reader;
  let bytes = 0;
  while (bytes < PAGE_BYTES && performance.now() - startedAt < SEARCH_MS) {
    const page = await reader.next();
    if (page === undefined || (page.isLarge && rows.length > 0)) break;
    rows.push(...page.rows);
    unread = reader.remaining;
    if (page.isLarge) return { rows, isLarge: true, unread };
    bytes += page.bytes;
  }
  return { rows, isLarge: false, unread };
}
