import { collectDefaultMetrics, Registry } from 'prom-client';
import { destinationsOf } from '../audit/delivery/sinks/index.ts';
import type { Config } from '../config/config.ts';
import type { Logger } from '../lib/log.ts';
import { makeDatabaseMetrics } from './database.ts';
import { startMetricsServer } from './server.ts';

/** A process's /metrics. */
export type MetricsEndpoint = Awaited<ReturnType<typeof startMetrics>>;

export interface EndpointOptions {
  readonly config: Pick<Config, 'metrics' | 'audit' | 'dataDir'>;
  /** The worker's or the authenticator's; it is asked at each scrape. */
  readonly databaseUrl: string;
  /** Whether this process delivers the trail. */
  readonly delivers: boolean;
  readonly log: Logger;
}

/**
 * Serves what the registry holds, what the process itself says, and what the database says, when METRICS_PORT is set.
 *
 * @returns where the parts of the process put theirs; the address, null when none is served; and what closes it, to be called
 *   last, so that also the end of a process can be watched
 * @throws ConfigError when the address can't be listened on
 */
export async function startMetrics(options: EndpointOptions) {
  const { config, databaseUrl, delivers, log } = options;
  const { host, port } = config.metrics;
  const registry = new Registry();
  if (port === null) return { registry, url: null, close: () => Promise.resolve() };
  collectDefaultMetrics({ register: registry });
  await using starting = new AsyncDisposableStack();
  const database = makeDatabaseMetrics(databaseUrl, delivers ? destinationsOf(config) : [], log);
  starting.defer(() => database.close());
  const render = async () => (await database.render()) + (await registry.metrics());
  const server = await startMetricsServer({ host, port }, render, log);
  starting.defer(() => server.close());
  const running = starting.move();
  return { registry, url: server.url, close: () => running.disposeAsync() };
}
