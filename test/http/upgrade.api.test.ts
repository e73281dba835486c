import { once } from 'node:events';
import { request } from 'node:http';
import type { IncomingMessage } from 'node:http';
import { connect } from 'node:net';

import { afterAll, beforeAll, expect, test } from 'vitest';

import { makeGraphql } from '../../src/graphql/index.ts';
import { startTestApi } from '../support/api.ts';
import type { TestApi } from '../support/api.ts';
import { useDatabase } from '../support/database.ts';
import { adminToken } from '../support/tokens.ts';

const database = useDatabase();
let api: TestApi;

beforeAll(async () => {
  api = await startTestApi(database.authenticatorUrl, { makeGraphql });
});
afterAll(async () => {
  await api.close();
});

/** Sends a request that offers to go on in another protocol, and answers what comes back in this one. */
function offer(protocol: string, method: string, path: string, body = ''): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  request(api.url + path, {
    method,
    headers: {
      authorization: `Bearer ${adminToken()}`,
      'content-type': 'application/json',
      connection: 'Upgrade, HTTP2-Settings',
      upgrade: protocol,
      'http2-settings': 'AAMAAABkAARAAAAAAAIAAAAA',
    },
  })
    .on('response', (response: IncomingMessage) => {
      response.resume();
      resolve(response.statusCode ?? 0);
    })
    .on('error', reject)
    .end(body);
  return promise;
}

// As curl --http2 and Java's HttpClient do with every request.
test('who offers HTTP/2 is answered in HTTP/1.1', async () => {
  expect(await offer('h2c', 'GET', '/api/admin/flags')).toBe(200);
  expect(await offer('h2c', 'POST', '/api/admin/flags', '{"flag_key":"h2c"}')).toBe(201);
  expect(await offer('h2c', 'POST', '/graphql', '{"query":"{ __typename }"}')).toBe(200);
});

test('a WebSocket is for /graphql alone', async () => {
  expect(await offer('WebSocket', 'GET', '/api/admin/flags')).toBe(404);
});

test('the connection of a refused WebSocket ends, though its client keeps its side open', async () => {
  const { hostname, port } = new URL(api.url);
  const socket = connect({ port: Number(port), host: hostname, allowHalfOpen: true });
  // The error of a write to a connection that is gone.
  socket.on('error', () => undefined).resume();
  const closed = new Promise((resolve) => socket.once('close', resolve));
  socket.write(
    'GET /elsewhere HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n',
  );
  await once(socket, 'end');
  // A server that has let go of a connection refuses what still comes.
  const poke = setInterval(() => socket.write('x'), 50);
  await closed;
  clearInterval(poke);
});
