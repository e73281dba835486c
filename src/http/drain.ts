import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { settlesWithin } from '../lib/wait.ts';

/** Watches a server's requests, so that it can end without cutting any off. Call it before other `request` listeners. */
export function makeDrain(server: Server) {
  const inFlight = new Set<ServerResponse>();
  const empty = Promise.withResolvers<undefined>();
  const ending = new AbortController();

  server.on('request', (_request: IncomingMessage, response: ServerResponse) => {
    inFlight.add(response);
    if (ending.signal.aborted) response.setHeader('Connection', 'close');
    response.once('close', () => {
      inFlight.delete(response);
      if (ending.signal.aborted && inFlight.size === 0) empty.resolve(undefined);
    });
  });

  return {
    /** Raised when the end begins: for answers that would not end by themselves. */
    signal: ending.signal,
    /** Accepts no more connections and closes idle ones. @returns how many requests are in flight after `deadlineMs` at most */
    async run(deadlineMs: number): Promise<number> {
      server.close();
      ending.abort();
      // Their connections would stay open for the next request, which this server will not answer.
      for (const response of inFlight)
        if (!response.headersSent) response.setHeader('Connection', 'close');
      if (inFlight.size > 0) await settlesWithin(deadlineMs, empty.promise);
      return inFlight.size;
    },
  };
}
