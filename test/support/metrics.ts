import { onTestFinished } from 'vitest';
import { loadConfig } from '../../src/config/config.ts';
import { startMetrics } from '../../src/metrics/endpoint.ts';
import type { EndpointOptions, MetricsEndpoint } from '../../src/metrics/endpoint.ts';
import { makeTestLog } from './log.ts';
import type { LogLine } from './log.ts';

/** What one scrape gave: each sample by its name and labels, as they stand in the text. */
export type Samples = ReadonlyMap<string, number>;

export async function scrape(url: string): Promise<Samples> {
  const response = await fetch(url);
  return parseSamples(await response.text());
}

export function parseSamples(text: string): Samples {
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  return new Map(
    lines.map((line) => {
      const space = line.lastIndexOf(' ');
      return [line.slice(0, space), Number(line.slice(space + 1))];
    }),
  );
}

/** A /metrics on a free port, closed at the end of the test after whatever is started later. */
export async function startTestMetrics(
  databaseUrl: string,
  options: Partial<EndpointOptions> = {},
): Promise<MetricsEndpoint & { url: string; lines: LogLine[] }> {
  const { log, lines } = makeTestLog();
  const metrics = await startMetrics({
    config: loadConfig({ NODE_ENV: 'test', METRICS_PORT: '0' }, 'worker'),
    databaseUrl,
    delivers: true,
    log,
    ...options,
  });
  onTestFinished(() => metrics.close());
  if (metrics.url === null) throw new Error('No metrics are served.');
  return { ...metrics, url: metrics.url, lines };
}
