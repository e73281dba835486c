import { createServer } from 'node:http';
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { onTestFinished } from 'vitest';
import { makeWebhookSink } from '../../src/audit/delivery/sinks/webhook/sink.ts';
import type { WebhookOptions } from '../../src/audit/delivery/sinks/webhook/sink.ts';
import type { Sink } from '../../src/audit/delivery/sink.ts';
import { makeTestLog } from './log.ts';
import type { LogLine } from './log.ts';

export interface Posted {
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

type Answer = (response: ServerResponse, posted: Posted, request: IncomingMessage) => void;

/** A receiver on the loopback interface, for one test. It answers 204 until `answer` is another. */
export interface WebhookServer {
  readonly url: string;
  readonly posted: Posted[];
  answer: Answer;
  /** Connections that were made. */
  connections: number;
}

export const SECRET = `whsec_${Buffer.alloc(32, 7).toString('base64')}`;
export const KEY = Buffer.alloc(32, 7);

export async function startWebhookServer(): Promise<WebhookServer> {
  const http = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const { headers, url: path = '' } = request;
      const posted = { path, headers, body: Buffer.concat(chunks).toString() };
      server.posted.push(posted);
      server.answer(response, posted, request);
    });
  });
  http.on('connection', () => (server.connections += 1));
  await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve));
  const { port } = http.address() as AddressInfo;
  const server: WebhookServer = {
    url: `http://127.0.0.1:${port}/hook`,
    posted: [],
    answer: (response) => response.writeHead(204).end(),
    connections: 0,
  };
  onTestFinished(() => {
    http.closeAllConnections();
    http.close();
  });
  return server;
}

/** Answers with a status and nothing else. */
export const status =
  (code: number, headers: Record<string, string> = {}): Answer =>
  (response) =>
    response.writeHead(code, headers).end();

export function makeTestWebhook(
  server: Pick<WebhookServer, 'url'>,
  options: Partial<WebhookOptions> = {},
): { sink: Sink; lines: LogLine[]; text: () => string } {
  const { log, lines, text } = makeTestLog();
  const sink = makeWebhookSink({
    url: new URL(server.url),
    keys: [KEY],
    types: null,
    format: 'standard',
    allowPrivate: true,
    destination: 'webhook:test',
    log,
    ...options,
  });
  onTestFinished(() => sink.close());
  return { sink, lines, text };
}
