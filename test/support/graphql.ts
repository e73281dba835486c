import { createServer } from 'node:http';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';

import express from 'express';
import { createClient } from 'graphql-ws';
import type { Client, ClientOptions } from 'graphql-ws';
import { afterAll, beforeAll, expect } from 'vitest';
import { WebSocket } from 'ws';

import { makeGraphql } from '../../src/graphql/index.ts';
import type { GraphqlServer } from '../../src/graphql/index.ts';
import { sendRequestId } from '../../src/http/request_id.ts';
import { makeAuthentication } from '../../src/auth/auth.ts';
import type { Config } from '../../src/config/config.ts';
import { loadConfig } from '../../src/config/config.ts';
import { shareByUser } from '../../src/postgres/fair_pool.ts';
import { makePool } from '../../src/postgres/pool.ts';
import type { TestDatabase } from './database.ts';
import { makeTestLog } from './log.ts';
import type { LogLine } from './log.ts';
import { adminToken, TEST_SECRET } from './tokens.ts';

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly data?: Record<string, never> | null;
  readonly errors?: readonly {
    readonly message: string;
    readonly path?: readonly (string | number)[];
    readonly extensions: { readonly code: string };
  }[];
}

export interface TestApi {
  readonly url: string;
  readonly graphql: GraphqlServer;
  readonly server: Server;
  readonly lines: readonly LogLine[];
  readonly logText: () => string;
  /** POSTs a query as alice, an admin, unless a token is given. */
  post(
    query: string,
    variables?: Record<string, unknown>,
    options?: { token?: string | null; headers?: Record<string, string>; operationName?: string },
  ): Promise<Answer>;
  /** The data of a query that must work. */
  data<T>(query: string, variables?: Record<string, unknown>, token?: string): Promise<T>;
  /** The code of the one error of a query that must not. */
  codeOf(query: string, variables?: Record<string, unknown>, token?: string): Promise<string>;
  socket(token: string | null, options?: Partial<ClientOptions>): Client;
  close(): Promise<void>;
}

export interface TestApiOptions {
  readonly nodeEnv?: Config['nodeEnv'];
  readonly maxSockets?: number;
  readonly maxSilent?: number;
  readonly executionMs?: number;
  readonly queuePerUser?: number;
  /** Settings. */
  readonly env?: NodeJS.ProcessEnv;
}

/** GraphQL alone on a free port, with the middleware that it counts on. */
export async function startGraphql(
  database: Pick<TestDatabase, 'authenticatorUrl'>,
  {
    nodeEnv = 'test',
    maxSockets,
    maxSilent,
    executionMs,
    queuePerUser = 256,
    env,
  }: TestApiOptions = {},
): Promise<TestApi> {
  const { log, lines, text } = makeTestLog();
  const config: Config = {
    ...loadConfig(
      {
        NODE_ENV: 'test',
        JWT_SECRET: TEST_SECRET,
        JWT_ALGORITHMS: 'HS256',
        QUEUE_PER_USER: String(queuePerUser),
        ...env,
      },
      'api',
    ),
    nodeEnv,
  };
  const pool = makePool(database.authenticatorUrl, { name: 'halyard-api', log });
  shareByUser(pool, queuePerUser);
  const graphql = await makeGraphql({
    pool,
    listenerUrl: database.authenticatorUrl,
    authentication: makeAuthentication(config.jwt, log),
    config,
    log,
    maxSockets,
    maxSilent,
    executionMs,
  });
  const app = express().use(sendRequestId);
  const server = createServer(app);
  await graphql.attach(app, server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/graphql`;

  const api: TestApi = {
    url,
    graphql,
    server,
    lines,
    logText: text,
    async post(query, variables, { token = adminToken(), headers = {}, operationName } = {}) {
      const response = await fetch(url, {
        method: 'POST',
        headers: {
          'content-type': 'application/json',
          ...(token === null ? {} : { authorization: `Bearer ${token}` }),
          ...headers,
        },
        body: JSON.stringify({ query, variables, operationName }),
      });
      const body = (await response.json()) as Pick<Answer, 'data' | 'errors'>;
      return { status: response.status, headers: response.headers, ...body };
    },
    async data<T>(query: string, variables?: Record<string, unknown>, token?: string) {
      const answer = await api.post(query, variables, token === undefined ? {} : { token });
      // The log says what the client isn't told.
      expect(
        answer.errors,
        JSON.stringify(lines.filter(({ level }) => level === 'error')),
      ).toBeUndefined();
      return answer.data as T;
    },
    async codeOf(query, variables, token) {
      const { errors } = await api.post(query, variables, token === undefined ? {} : { token });
      expect(errors).toHaveLength(1);
      return errors?.[0]?.extensions.code ?? '';
    },
    socket: (token, options) =>
      createClient({
        url: url.replace('http', 'ws'),
        webSocketImpl: WebSocket,
        retryAttempts: 0,
        lazy: true,
        ...(token === null ? {} : { connectionParams: { authorization: `Bearer ${token}` } }),
        ...options,
      }),
    async close() {
      await graphql.close();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      await pool.end();
    },
  };
  return api;
}

/** GraphQL for a whole test file, on its database. */
export function useGraphql(database: TestDatabase, options?: TestApiOptions): () => TestApi {
  let api: TestApi | undefined;
  beforeAll(async () => {
    api = await startGraphql(database, options);
  });
  afterAll(async () => {
    await api?.close();
  });
  return () => {
    if (api === undefined) throw new Error('The API exists only inside tests.');
    return api;
  };
}

/** An hour ahead, or as many minutes as given. */
export const inMinutes = (minutes = 60) => new Date(Date.now() + minutes * 60_000).toISOString();
