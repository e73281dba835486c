import type { IncomingMessage, Server } from 'node:http';
import type { Duplex } from 'node:stream';

import type { ExecutionArgs } from 'postgraphile/graphql';
import { handleProtocols, makeServer, type ServerOptions } from 'graphql-ws';
import { WebSocketServer, type WebSocket } from 'ws';

import type { Denial } from '../audit/denials/recorder.ts';
import type { Authentication } from '../auth/auth.ts';
import type { Claims } from '../auth/claims.ts';
import { NoRoleError } from '../postgres/request_settings.ts';
import { problemOf } from '../lib/errors.ts';
import type { Logger } from '../lib/log.ts';
import { requestIdsOf } from '../http/request_id.ts';
import type { Engine } from './execute.ts';
import { failure, graphqlProblem } from './errors.ts';
import type { Results } from './live/feed.ts';
import { readBody } from './http.ts';

const MOST_SOCKETS = 500;
const MOST_SUBSCRIPTIONS = 20;
const MOST_BYTES = 100_000;
const TOO_MANY = `Open ${MOST_SUBSCRIPTIONS} subscriptions at most on a connection.`;
/** Answers that may wait for a client who asks on without reading them. */
const MOST_WAITING_BYTES = 1_000_000;
const INIT_TIMEOUT_MS = 5_000;
const PING_MS = 20_000;
/** How long clients get to answer the closing handshake. */
const CLOSE_MS = 1_000;
/** Longer delays overflow to none. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** Close codes: 44xx are the protocol's, the others RFC 6455's and its registry's. */
const CLOSE = { goingAway: 1001, tryAgain: 1013, unauthorized: 4401, forbidden: 4403 } as const;

/** What is known of a connection. */
interface Extra {
  readonly socket: WebSocket;
  readonly request: IncomingMessage;
  claims?: Claims;
}

/** Subscriptions by WebSocket at /graphql, with the protocol graphql-transport-ws. */
export function makeSockets(options: {
  readonly engine: () => Engine;
  readonly authentication: Authentication;
  readonly log: Logger;
  readonly maxSockets: number | undefined;
  readonly onDenied: ((denial: Denial) => void) | undefined;
}) {
  const { authentication, engine, log, maxSockets = MOST_SOCKETS, onDenied } = options;
  const sockets = new WebSocketServer({
    noServer: true,
    maxPayload: MOST_BYTES,
    handleProtocols,
    // Compression costs a socket more memory than these messages are worth.
    perMessageDeflate: false,
    // A client that never answers the close frame would keep its place and subscriptions for 30 s. Spread: the types lack it.
    ...{ closeTimeout: CLOSE_MS },
  });
  let closing = false;

  /** Verifies the token of connection_init, or of the upgrade's header. @returns whether to acknowledge */
  async function connect(extra: Extra, params: Record<string, unknown> = {}): Promise<boolean> {
    try {
      const claims = await authentication.verifyToken(tokenIn(params, extra.request));
      if (claims.role === null) {
        const request = requestIdsOf(extra.request);
        onDenied?.({ claims, request, operation: 'WEBSOCKET /graphql', code: 'role_missing' });
        throw new NoRoleError();
      }
      extra.claims = claims;
      closeAtExpiry(extra.socket, claims);
      return true;
    } catch (error) {
      const { status, code } = problemOf(error);
      if (status >= 500) log.warn({ err: error }, 'a WebSocket was turned away');
      const closeCode =
        status === 401 ? CLOSE.unauthorized : status === 403 ? CLOSE.forbidden : CLOSE.tryAgain;
      extra.socket.close(closeCode, code);
      return false;
    }
  }

  const protocol = makeServer<Record<string, unknown>, Extra>({
    connectionInitWaitTimeout: INIT_TIMEOUT_MS,
    onConnect: ({ extra, connectionParams }) => connect(extra, connectionParams),
    onSubscribe: ({ extra, subscriptions }, id, payload) => {
      if (Object.keys(subscriptions).length > MOST_SUBSCRIPTIONS)
        return [graphqlProblem('invalid_query', TOO_MANY)];
      // Nothing is parsed here: the engine does all of it, with its own limits.
      return { document: SUBSCRIPTION, id, payload, extra } as unknown as ExecutionArgs;
    },
    subscribe: (async ({ id, payload, extra }: { id: string; payload: unknown; extra: Extra }) => {
      const { socket, request, claims } = extra;
      if (claims === undefined) throw new Error('A subscription came before connection_init.');
      const ids = requestIdsOf(request);
      const caller = { claims, request: ids, log: log.child(ids) };
      try {
        const results = await engine().subscribe(readBody(payload), caller);
        return Symbol.asyncIterator in results ? sendAll(results, id, socket) : results;
      } catch (error) {
        return failure(error, caller.log);
      }
    }) as unknown as NonNullable<ServerOptions['subscribe']>,
    // The engine has formatted them.
    onNext: (_context, _id, _payload, _args, result) => result as never,
  });

  function open(socket: WebSocket, request: IncomingMessage): void {
    keepAlive(socket);
    endUnread(socket);
    socket.on('error', (error) => log.debug({ err: error }, 'a WebSocket failed'));
    const closed = protocol.opened(
      {
        protocol: socket.protocol,
        send: (text) => send(socket, text),
        close: (code, reason) => socket.close(code, reason),
        onMessage: (receive) =>
          socket.on('message', (data: Buffer) => {
            receive(data.toString('utf8')).catch((error: unknown) => {
              log.error({ err: error }, 'a WebSocket message failed');
              socket.close(1011, 'internal_error');
            });
          }),
      },
      { socket, request },
    );
    socket.once('close', (code, reason) => {
      Promise.resolve(closed(code, reason.toString())).catch((error: unknown) =>
        log.error({ err: error }, 'ending the subscriptions of a WebSocket failed'),
      );
    });
  }

  function upgrade(request: IncomingMessage, stream: Duplex, head: Buffer): void {
    stream.on('error', (error) => log.debug({ err: error }, 'an upgrade failed'));
    const [path] = (request.url ?? '').split('?');
    if (path !== '/graphql') refuse(stream, '404 Not Found');
    else if (!isOwnOrigin(request)) refuse(stream, '403 Forbidden');
    else if (closing || sockets.clients.size >= maxSockets)
      refuse(stream, '503 Service Unavailable');
    else sockets.handleUpgrade(request, stream, head, open);
  }

  return {
    get size() {
      return sockets.clients.size;
    },
    attach(server: Server): void {
      server.on('upgrade', upgrade);
    },
    /** Asks every client to go away (1001) and waits until they have, for a second at most. */
    async close(): Promise<void> {
      closing = true;
      await Promise.all(Array.from(sockets.clients, closeAndWait));
      sockets.close();
    },
  };
}

/** graphql-ws wants a document to see that it is a subscription; the engine reads the client's own. */
const SUBSCRIPTION = {
  kind: 'Document',
  definitions: [{ kind: 'OperationDefinition', operation: 'subscription' }],
};

/** Resolves when the bytes are out: a client who reads slowly slows its own subscription only. */
function send(socket: WebSocket, text: string): Promise<void> {
  return new Promise((resolve) => socket.send(text, () => resolve()));
}

/** Sends the results under the client's id. graphql-ws would make text of each for each client; it only hears the end. */
function sendAll(results: Results, id: string, socket: WebSocket): AsyncIterableIterator<never> {
  const head = `{"id":${JSON.stringify(id)},"type":"next","payload":`;
  return {
    [Symbol.asyncIterator]() {
      return this;
    },
    async next() {
      for await (const text of results) await send(socket, `${head}${text}}`);
      return { done: true, value: undefined };
    },
    return: () => results.return() as Promise<IteratorReturnResult<void>>,
  };
}

/** The bare token of `authorization: Bearer …` in the payload of connection_init, or in the upgrade's header; or ''. */
function tokenIn(params: Record<string, unknown>, request: IncomingMessage): string {
  const given = params.authorization ?? params.Authorization ?? request.headers.authorization;
  return typeof given === 'string' ? (/^Bearer +(\S+)$/i.exec(given.trim())?.[1] ?? '') : '';
}

/** A browser says which site a script is from; other clients say nothing. */
function isOwnOrigin({ headers }: IncomingMessage): boolean {
  const { origin, host } = headers;
  if (origin === undefined) return true;
  return URL.canParse(origin) && new URL(origin).host === host;
}

function refuse(stream: Duplex, status: string): void {
  stream.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
}

/** A subscription ends with the token that opened it. */
function closeAtExpiry(socket: WebSocket, { expiresAt }: Claims): void {
  if (expiresAt === null) return;
  const check = () => {
    const left = expiresAt * 1_000 - Date.now();
    if (left <= 0) socket.close(CLOSE.unauthorized, 'token_expired');
    else timer = setTimeout(check, Math.min(left, LONGEST_TIMER_MS));
  };
  let timer: NodeJS.Timeout | undefined;
  check();
  socket.once('close', () => clearTimeout(timer));
}

/** Pings, and ends a connection whose last ping wasn't answered. */
function keepAlive(socket: WebSocket): void {
  let answered = true;
  socket.on('pong', () => (answered = true));
  const timer = setInterval(() => {
    if (answered) socket.ping();
    else socket.terminate();
    answered = false;
  }, PING_MS);
  socket.once('close', () => clearInterval(timer));
}

/** Ends a connection whose client sends on, pings for instance, and reads no answers, which would fill the memory. */
function endUnread(socket: WebSocket): void {
  const check = () => {
    if (socket.bufferedAmount > MOST_WAITING_BYTES) socket.terminate();
  };
  socket.on('message', check).on('ping', check);
}

/** ws itself ends the connection of a client that hasn't answered in CLOSE_MS. */
function closeAndWait(socket: WebSocket): Promise<unknown> {
  socket.close(CLOSE.goingAway, 'the server is stopping');
  return new Promise((resolve) => socket.once('close', resolve));
}
