import type { Settings } from '../../../config/setting.ts';
import type { Logger } from '../../../lib/log.ts';
import type { Sink } from '../sink.ts';
import { cloudwatch } from './cloudwatch.ts';
import { file } from './file.ts';
import type { SinkConfig, SinkKind } from './kind.ts';
import { stdout } from './stdout.ts';
import { webhook } from './webhook.ts';

/** The sinks that AUDIT_SINK can name. A new sink is a file and an entry here (CONTRIBUTING.md). */
export const SINKS: readonly SinkKind[] = [stdout, cloudwatch, webhook];

/** Those, and what `start` delivers to on the embedded server. */
const ALL: readonly SinkKind[] = [...SINKS, file];

/** The settings of all sinks. */
export const SINK_SETTINGS: Settings = Object.fromEntries(
  ALL.flatMap(({ settings }) => Object.entries(settings)),
);

/** A sink that was made, and the name of its cursor. */
export interface Destination {
  readonly destination: string;
  readonly sink: Sink;
}

/** The sinks of these names, in their order. */
export function chosenSinks(names: readonly string[]): SinkKind[] {
  return names.flatMap((name) => ALL.find((kind) => kind.name === name) ?? []);
}

/** The names of the cursors that the configuration's sinks have. */
export function destinationsOf({ audit, dataDir }: SinkConfig): string[] {
  return chosenSinks(audit.sinks).map((kind) => kind.destination({ ...audit, dataDir }));
}

/**
 * Makes the sinks that the configuration chooses.
 *
 * @param made gets each as soon as it is made, so that it can be closed also when a later one fails
 * @throws ConfigError when one can't work as configured; UntrustedPathError for a file that others may have written to
 */
export async function makeSinks(
  { audit, dataDir }: SinkConfig,
  log: Logger,
  made: (sink: Sink) => void,
): Promise<Destination[]> {
  const destinations: Destination[] = [];
  for (const kind of chosenSinks(audit.sinks)) {
    const options = { ...audit, dataDir };
    const sink = await kind.make(options, log);
    made(sink);
    destinations.push({ destination: kind.destination(options), sink });
  }
  return destinations;
}
