import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { RequestHandler } from 'express';
import type { Logger } from '../lib/log.ts';

/** One costs some 10 kB and a file descriptor. */
const MAX_CONNECTIONS = 2_000;

/**
 * Bounds a server's connections so that those that do nothing never fill the places of others: without a request yet, with a part of one,
 * between two requests, or with a body that still trickles in, also where a token was verified. When all places are taken, the connection
 * that has done nothing for longest makes room. Node's own `maxConnections` would turn the new one away. WebSockets aren't counted.
 *
 * @param max how many connections there may be; 2,000 by default
 */
export function limitConnections(server: Server, max = MAX_CONNECTIONS): void {
  /** Those that have sent no whole request yet, oldest first. */
  const silent = new Set<Socket>();
  /** Those whose requests are all answered, the one that was answered first in front. */
  const idle = new Set<Socket>();
  /** Requests that aren't answered yet. */
  const busy = new Map<Socket, number>();

  function forget(socket: Socket): void {
    for (const set of [silent, idle, busy]) set.delete(socket);
  }

  function makeRoom(newest: Socket): void {
    // From the larger set, so that a flood of one kind costs no connection of the other.
    const [oldest = newest] = silent.size > idle.size ? silent : idle;
    forget(oldest);
    oldest.destroy();
  }

  server.on('connection', (socket: Socket) => {
    if (silent.size + idle.size + busy.size >= max) makeRoom(socket);
    if (socket.destroyed) return;
    silent.add(socket);
    socket.once('close', () => forget(socket));
  });
  function begin(socket: Socket, response: ServerResponse): void {
    silent.delete(socket);
    idle.delete(socket);
    busy.set(socket, (busy.get(socket) ?? 0) + 1);
    response.once('close', () => {
      const left = (busy.get(socket) ?? 0) - 1;
      if (left > 0) busy.set(socket, left);
      else if (busy.delete(socket) && !socket.destroyed) idle.add(socket);
    });
  }

  server.on('request', (request: IncomingMessage, response: ServerResponse) => {
    const { socket } = request;
    if (!hasBody(request)) begin(socket, response);
    else {
      if (idle.delete(socket)) silent.add(socket);
      request.once('end', () => {
        if (!response.closed) begin(socket, response);
      });
    }
  });
  server.on('upgrade', ({ socket }: IncomingMessage) => forget(socket));
}

function hasBody({ headers }: IncomingMessage): boolean {
  const { 'content-length': length = '0', 'transfer-encoding': encoding } = headers;
  return encoding !== undefined || length !== '0';
}

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
