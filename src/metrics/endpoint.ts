import { collectDefaultMetrics, Registry } from 'prom-client';
import { destinationOf } from '../audit/delivery/sinks/index.ts';
import type { Config } from '../config/config.ts';
import type { Logger } from '../lib/log.ts';
import { makeDatabaseMetrics } from './database.ts';
import { startMetricsServer } from './server.ts';

/** A process's /metrics. */
export interface MetricsEndpoint {
  /** Where the parts of the process put theirs. */
  readonly registry: Registry;
  /** As this machine reaches it; null when none is served. */
  readonly url: string | null;
  /** To be called last, so that also the end of a process can be watched. May be called twice. */
  readonly close: () => Promise<void>;
}

export interface EndpointOptions {
  readonly config: Pick<Config, 'metrics' | 'audit'>;
  /** The worker's or the authenticator's; it is asked at each scrape. */
  readonly databaseUrl: string;
  /** Whether this process delivers the trail. */
  readonly delivers: boolean;
  readonly log: Logger;
  /** Milliseconds that the database gets to answer. */
  readonly deadlineMs?: number;
}

/**
 * Serves what the registry holds, what the process itself says, and what the database says, when METRICS_PORT is set.
 *
 * @throws ConfigError when the address can't be listened on
 */
export async function startMetrics(options: EndpointOptions): Promise<MetricsEndpoint> {
  const { config, databaseUrl, delivers, log, deadlineMs } = options;
  const { host, port } = config.metrics;
  const registry = new Registry();
  if (port === null) return { registry, url: null, close: () => Promise.resolve() };
  collectDefaultMetrics({ register: registry });
  const database = makeDatabaseMetrics({
    databaseUrl,
    destinations: delivers ? [destinationOf(config)] : [],
    log,
    deadlineMs,
  });
  const render = async () => (await database.render()) + (await registry.metrics());
  try {
    const server = await startMetricsServer({ host, port, render, log });
    let closing: Promise<void> | undefined;
    return {
      registry,
      url: server.url,
      close: () => (closing ??= server.close().then(() => database.close())),
    };
  } catch (error) {
    await database.close();
    throw error;
  }
}

/**
 * Starts a process's one part with a /metrics beside it, and ends them in the opposite order.
 *
 * @param start makes the part, and puts its metrics into the registry
 */
export async function withMetrics(
  options: EndpointOptions,
  start: (registry: Registry) => Promise<{ stop: () => Promise<void> }>,
): Promise<{ stop: () => Promise<void> }> {
  const metrics = await startMetrics(options);
  try {
    const part = await start(metrics.registry);
    return {
      async stop() {
        await part.stop();
        await metrics.close();
      },
    };
  } catch (error) {
    await metrics.close();
    throw error;
  }
}
