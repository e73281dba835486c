import { basename } from 'node:path';
import { ConfigError, type Config } from '../../../config/config.ts';
import type { Logger } from '../../../lib/log.ts';
import { makeCloudWatchSink } from './cloudwatch/sink.ts';
import { makeCloudWatchClient } from './cloudwatch/client.ts';
import type { Sink } from '../sink.ts';
import { makeFileSink } from './file.ts';
import { makeStdoutSink } from './stdout.ts';

/** The cursor's name in audit.cursors. Not the stream: one is written per host, and each event goes to one of them. */
export function destinationOf({ audit }: Pick<Config, 'audit'>): string {
  switch (audit.sink) {
    case 'cloudwatch':
      return `cloudwatch:${audit.logGroup}`;
    case 'file':
      // Without its folder, which may be moved.
      return `file:${basename(audit.file)}`;
    case 'stdout':
      return 'stdout';
  }
}

/**
 * The sink that the configuration chooses.
 *
 * @throws ConfigError when CloudWatch is chosen and the SDK's chain knows no region: unlike an outage, that never passes;
 *   ConfigError or UntrustedPathError when a file is chosen that can't be written to
 */
export async function makeSink({ audit }: Pick<Config, 'audit'>, log: Logger): Promise<Sink> {
  if (audit.sink === 'stdout') return makeStdoutSink();
  if (audit.sink === 'file') return makeFileSink(audit.file);
  const client = makeCloudWatchClient();
  try {
    await client.config.region();
  } catch (error) {
    client.destroy();
    throw new ConfigError([
      `Set AWS_REGION: AUDIT_SINK=cloudwatch needs it (${error instanceof Error ? error.message : String(error)}).`,
    ]);
  }
  return makeCloudWatchSink({ client, logGroup: audit.logGroup, logStream: audit.logStream, log });
}
