import type { Request, Response } from 'express';

import { problemOf } from '../../lib/errors.ts';
import type { Logger } from '../../lib/log.ts';
import { logProblem } from '../../http/problems.ts';
import type { EventReader } from './export.ts';
import { FORMATS, textOf } from './format.ts';
import { CutOffError, type Sender } from './sender.ts';

/** After so long without an event a follower gets a blank line, so that no proxy on the way takes the connection for dead. */
export const KEEP_ALIVE_MS = 15_000;

/** The formats that are streamed. */
export type Streamed = keyof typeof FORMATS;

/** The head of a streamed answer. */
export function startStream(response: Response, format: Streamed): void {
  response.setHeader('Content-Type', FORMATS[format].mediaType);
  response.setHeader('Content-Disposition', `attachment; filename="audit-events.${format}"`);
  // Proxies of nginx's kind would collect what a follower waits for.
  response.setHeader('X-Accel-Buffering', 'no');
}

/**
 * Sends all pages. The head goes out only with the first, so that an error of that can still be answered. Of a page only its
 * text is kept while the client reads: 60 clients that don't read must not keep the rows of 60 pages.
 */
export async function sendStream(
  response: Response,
  format: Streamed,
  reader: EventReader,
  sender: Sender,
  follow: boolean,
): Promise<void> {
  let sentAt = performance.now();

  /** Its page is garbage once it has returned the text. */
  async function nextText(): Promise<string | AsyncIterable<string> | undefined> {
    const page = await reader.next();
    const isQuiet = performance.now() - sentAt > KEEP_ALIVE_MS;
    const keepAlive = isQuiet ? FORMATS[format].keepAlive : '';
    return page && textOf(FORMATS[format], page, reader.pieces, keepAlive);
  }

  /** @returns whether there may be more */
  async function sendNext(): Promise<boolean> {
    const text = await nextText();
    if (!response.headersSent) {
      startStream(response, format);
      if (follow) response.flushHeaders();
      await sender.send(FORMATS[format].head);
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

/** Half an answer is out: the connection ends without the mark of a whole one, so that no client takes it for that. */
export function abortResponse(
  request: Request,
  response: Response,
  sender: Sender,
  error: unknown,
): void {
  const { log } = request as unknown as { log: Logger };
  if (!(error instanceof CutOffError)) {
    logProblem(log, problemOf(error), error);
    response.destroy();
  } else if (response.destroyed) log.debug('the client went away');
  else {
    log.warn({ reason: error.message }, 'an export was cut off');
    sender.cutOff();
  }
}
