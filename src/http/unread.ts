import type { RequestHandler } from 'express';
import type { Logger } from '../lib/log.ts';

/**
 * Express: cuts off an answer of which its client reads nothing for so long once all of it waits to be sent. Until then it is in
 * memory, and a client could ask for any number of answers and read none.
 *
 * @param ms milliseconds without progress
 */
export function cutUnread(ms: number): RequestHandler {
  return (request, response, next) => {
    response.once('prefinish', () => {
      if (response.writableLength > 0) request.socket.setTimeout(ms);
    });
    // Node's own timer, which starts again while bytes go out, and is replaced when the answer has gone.
    response.once('timeout', () => {
      const { log } = request as { log?: Logger };
      log?.warn({ reason: `Its client read nothing for ${ms} ms.` }, 'an answer was cut off');
      request.socket.resetAndDestroy();
    });
    next();
  };
}
