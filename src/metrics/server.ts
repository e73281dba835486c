import { once } from 'node:events';
import { createServer, type ServerResponse } from 'node:http';
import { limitConnections } from '../http/connections.ts';
import { listen } from '../http/listen.ts';
import { singleFlight } from '../lib/coalesce.ts';
import type { Logger } from '../lib/log.ts';

const CONTENT_TYPE = 'text/plain; version=0.0.4; charset=utf-8';
/** Who asks is Prometheus, and a person with curl. */
const MOST_CONNECTIONS = 64;
const TIMEOUTS = {
  headersTimeout: 5_000,
  requestTimeout: 5_000,
  connectionsCheckingInterval: 2_000,
};

/**
 * Serves GET /metrics and nothing else. It asks for no token, as Prometheus has none: so it is on a port of its own, which
 * isn't for the public, and has neither keys of flags nor names of people in it.
 *
 * @param at `port` 0 takes any free one
 * @param renderAll gives all metrics, in Prometheus' text format
 * @returns its address as this machine reaches it, `http://127.0.0.1:9464/metrics`, and what closes it
 * @throws ConfigError when the address can't be listened on
 */
export async function startMetricsServer(
  at: { host: string; port: number },
  renderAll: () => Promise<string>,
  log: Logger,
) {
  const render = singleFlight(renderAll);
  const server = createServer(TIMEOUTS, (request, response) => {
    const isKnown = request.url?.split('?', 1)[0] === '/metrics';
    if (!isKnown || (request.method !== 'GET' && request.method !== 'HEAD')) {
      answer(response, 404, 'Ask for GET /metrics.\n');
      return;
    }
    render().then(
      (text) => answer(response, 200, text),
      (error: unknown) => {
        log.error({ err: error }, 'the metrics could not be rendered');
        answer(response, 500, 'The metrics could not be rendered; the log says why.\n');
      },
    );
  });
  limitConnections(server, MOST_CONNECTIONS);
  const url = `${await listen(server, at, 'METRICS_')}/metrics`;
  log.info({ url }, 'metrics are served');
  return {
    url,
    async close() {
      server.close();
      server.closeAllConnections();
      await once(server, 'close');
    },
  };
}

function answer(response: ServerResponse, status: number, text: string): void {
  response.writeHead(status, {
    'Content-Type': status === 200 ? CONTENT_TYPE : 'text/plain; charset=utf-8',
    'Cache-Control': 'no-store',
    'X-Content-Type-Options': 'nosniff',
  });
  response.end(text);
}
