import type { IncomingMessage, Server } from 'node:http';
import type { Duplex } from 'node:stream';
import type { ExecutionArgs } from 'postgraphile/graphql';
import { handleProtocols, makeServer, type ServerOptions } from 'graphql-ws';
import { WebSocketServer, type WebSocket } from 'ws';
import { userKey, type Claims } from '../auth/claims.ts';
import { NoRoleError } from '../postgres/request_settings.ts';
import { ProblemError, problemOf, type ProblemCode } from '../lib/errors.ts';
import { makeFairQueue } from '../lib/fair_queue.ts';
import { atTime } from '../lib/wait.ts';
import { requestIdsOf } from '../http/request_id.ts';
import type { EndOptions } from './execute.ts';
import { failure, graphqlProblem } from './errors.ts';
import type { Results } from './live/subscription_source.ts';
import { readBody } from './http.ts';
import { dropSlowConsumer, keepAlive, makeSocketPlaces } from './sockets.ts';

/** With a token. */
const MAX_SOCKETS = 500;
const MAX_SUBSCRIPTIONS = 20;
const MAX_BYTES = 100_000;
/** Characters of a subscription's id, which is kept and goes out with each of its messages. */
const MAX_ID_LENGTH = 256;
const LONG_ID = `Give a subscription an id of ${MAX_ID_LENGTH} characters at most.`;
const TOO_MANY = `Open ${MAX_SUBSCRIPTIONS} subscriptions at most on a connection.`;
/** How long clients get to send their token, after which a socket is closed. */
const INIT_TIMEOUT_MS = 2_000;
/** How long clients get to answer the closing handshake: a silent one is gone after 3 s. */
const CLOSE_MS = 1_000;

/** How long clients get to take a message. */
const SEND_MS = 10_000;

/** Close codes: 44xx are the protocol's, the others RFC 6455's and its registry's. */
const CLOSE = {
  goingAway: 1001,
  tryAgain: 1013,
  unauthorized: 4401,
  forbidden: 4403,
  /** A client of graphql-ws doesn't try again after this. */
  tooMany: 4429,
} as const;

/** How much one user may have of a process. */
interface SocketLimits {
  readonly socketsPerUser: number;
  /** On all of the user's sockets. */
  readonly subscriptionsPerUser: number;
}

/** A connection, and the claims of its token. */
interface Extra {
  readonly socket: WebSocket;
  readonly request: IncomingMessage;
  claims?: Claims;
}

/** A subscription that a client asks for. */
interface Request {
  readonly id: string;
  readonly payload: unknown;
  readonly extra: Extra;
}

/** Subscriptions by WebSocket at /graphql, with the protocol graphql-transport-ws. */
export function makeSockets(
  options: EndOptions & {
    readonly maxSockets: number | undefined;
    readonly maxSilent: number | undefined;
    readonly limits: SocketLimits;
  },
) {
  const { authentication, executor, log, limits, onDenied } = options;
  const { maxSockets = MAX_SOCKETS, maxSilent } = options;
  const maxPerUser = limits.socketsPerUser;
  const places = makeSocketPlaces({ maxSockets, maxSilent, maxPerUser });
  const quota = makeFairQueue({ slots: Infinity, perUser: limits.subscriptionsPerUser });
  const sockets = new WebSocketServer({
    noServer: true,
    maxPayload: MAX_BYTES,
    handleProtocols,
    // Compression costs a socket more memory than these messages are worth.
    perMessageDeflate: false,
    // A client that never answers the close frame would keep its place and subscriptions for 30 s. Spread: the types lack it.
    ...{ closeTimeout: CLOSE_MS },
  });
  let closing = false;

  /** Verifies the token of connection_init, or of the upgrade's header, or of its session. @returns whether to acknowledge */
  async function connect(extra: Extra, params: Record<string, unknown> = {}): Promise<boolean> {
    const { socket, request } = extra;
    try {
      const token = tokenIn(params, request);
      // Before it is verified: the session may end meanwhile.
      const signOut = (reason: string) => socket.close(CLOSE.unauthorized, reason);
      if (token === null) socket.once('close', authentication.onSessionEnd(request, signOut));
      const claims = await authentication.verifyUpgrade(request, token);
      if (claims.role === null) {
        const ids = requestIdsOf(request);
        onDenied?.({ claims, request: ids, operation: 'WEBSOCKET /graphql', code: 'role_missing' });
        throw new NoRoleError(claims);
      }
      // It may have been closed while the token was verified, and then would never give its place back.
      if (socket.readyState !== socket.OPEN) return false;
      const outcome = places.verify(socket, userKey(claims));
      const reason: ProblemCode = 'too_many_sockets';
      if (outcome === 'user_full') socket.close(CLOSE.tooMany, reason);
      if (outcome === 'full') socket.close(CLOSE.tryAgain, reason);
      if (outcome !== 'given') return false;
      extra.claims = claims;
      const { expiresAt } = claims;
      const expire = () => socket.close(CLOSE.unauthorized, 'token_expired');
      if (expiresAt !== null) socket.once('close', atTime(expiresAt, expire));
      return true;
    } catch (error) {
      const { status, code } = problemOf(error);
      if (status >= 500) log.warn({ err: error }, 'a WebSocket was turned away');
      const closeCode =
        status === 401 ? CLOSE.unauthorized : status === 403 ? CLOSE.forbidden : CLOSE.tryAgain;
      socket.close(closeCode, code);
      return false;
    }
  }

  /** Starts a subscription; what goes wrong is its result. */
  async function subscribe({ id, payload, extra }: Request): Promise<unknown> {
    const { socket, request, claims } = extra;
    if (claims === undefined) throw new Error('A subscription came before connection_init.');
    const ids = requestIdsOf(request);
    const caller = { claims, request: ids, log: log.child(ids) };
    const giveBack = quota.tryTake(userKey(claims));
    try {
      if (giveBack === null)
        throw new ProblemError(
          'too_many_subscriptions',
          `Open ${limits.subscriptionsPerUser} subscriptions at most, on all connections.`,
        );
      const results = await executor().subscribe(readBody(payload), caller);
      if (Symbol.asyncIterator in results) return sendAll(results, id, socket, giveBack);
      giveBack();
      return results;
    } catch (error) {
      giveBack?.();
      return failure(error, caller.log);
    }
  }

  const protocol = makeServer<Record<string, unknown>, Extra>({
    connectionInitWaitTimeout: INIT_TIMEOUT_MS,
    onConnect: ({ extra, connectionParams }) => connect(extra, connectionParams),
    onSubscribe: ({ extra, subscriptions }, id, payload) => {
      if (Object.keys(subscriptions).length > MAX_SUBSCRIPTIONS)
        return [graphqlProblem('invalid_query', TOO_MANY)];
      if (id.length > MAX_ID_LENGTH) return [graphqlProblem('invalid_query', LONG_ID)];
      // Nothing is parsed here: the executor does all of it, with its own limits.
      return { document: SUBSCRIPTION, id, payload, extra } as unknown as ExecutionArgs;
    },
    subscribe: subscribe as unknown as NonNullable<ServerOptions['subscribe']>,
    // The executor has formatted them.
    onNext: (_context, _id, _payload, _args, result) => result as never,
  });

  function open(socket: WebSocket, request: IncomingMessage): void {
    places.open(socket);
    keepAlive(socket);
    dropSlowConsumer(socket);
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
    else if (closing || places.isFull()) refuse(stream, '503 Service Unavailable');
    else sockets.handleUpgrade(request, stream, head, open);
  }

  return {
    /** Open sockets, those with a verified token and the others. */
    get load() {
      return { sockets: places.verified, silent: places.silent };
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

/** graphql-ws wants a document to see that it is a subscription; the executor reads the client's own. */
const SUBSCRIPTION = {
  kind: 'Document',
  definitions: [{ kind: 'OperationDefinition', operation: 'subscription' }],
};

/**
 * Resolves when the bytes are out: a client who reads slowly slows its own subscription only. One that has not taken them in 10 s is cut
 * off, because until then they are in memory: it need not read to answer pings.
 */
function send(socket: WebSocket, text: string): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => socket.terminate(), SEND_MS);
    socket.send(text, () => {
      clearTimeout(timer);
      resolve();
    });
  });
}

/**
 * Sends the results under the client's id. graphql-ws would make text of each for each client; it only hears the end.
 *
 * @param onEnd may be called twice
 */
function sendAll(
  results: Results,
  id: string,
  socket: WebSocket,
  onEnd: () => void,
): AsyncIterableIterator<never> {
  const head = `{"id":${JSON.stringify(id)},"type":"next","payload":`;
  return {
    [Symbol.asyncIterator]() {
      return this;
    },
    async next() {
      for await (const text of results) await send(socket, `${head}${text}}`);
      onEnd();
      return { done: true, value: undefined };
    },
    return: () => {
      onEnd();
      return results.return() as Promise<IteratorReturnResult<void>>;
    },
  };
}

/** The bare token of `authorization: Bearer …` in the payload of connection_init, or in the upgrade's header; '' for another text, null for none. */
function tokenIn(params: Record<string, unknown>, request: IncomingMessage): string | null {
  const given = params.authorization ?? params.Authorization ?? request.headers.authorization;
  if (given === undefined) return null;
  return typeof given === 'string' ? (/^Bearer +(\S+)$/i.exec(given.trim())?.[1] ?? '') : '';
}

/** A browser says which site a script is from; other clients say nothing. */
function isOwnOrigin({ headers }: IncomingMessage): boolean {
  const { origin, host } = headers;
  if (origin === undefined) return true;
  return URL.canParse(origin) && new URL(origin).host === host;
}

/** The server no longer counts the connection, so it isn't left to its client to end it. */
function refuse(stream: Duplex, status: string): void {
  const answer = `HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`;
  stream.end(answer, () => stream.destroy());
}

/** ws itself ends the connection of a client that hasn't answered in CLOSE_MS. */
function closeAndWait(socket: WebSocket): Promise<unknown> {
  socket.close(CLOSE.goingAway, 'the server is stopping');
  return new Promise((resolve) => socket.once('close', resolve));
}
