import type { Config } from '../config.ts';
import type { Logger } from '../log.ts';
import { makeCloudWatchSink } from './cloudwatch.ts';
import type { Sink } from './sink.ts';
import { makeStdoutSink } from './stdout.ts';

/**
 * The name under which audit.cursors keeps how far this destination has got: `stdout` or `cloudwatch:<group>`. Not the
 * stream: one is written per host, and each event goes to one of them.
 */
export function destinationOf({ audit }: Pick<Config, 'audit'>): string {
  return audit.sink === 'cloudwatch' ? `cloudwatch:${audit.logGroup}` : 'stdout';
}

/** The sink that the configuration chooses. */
export function makeSink({ audit }: Pick<Config, 'audit'>, log: Logger): Sink {
  switch (audit.sink) {
    case 'cloudwatch':
      return makeCloudWatchSink({ logGroup: audit.logGroup, logStream: audit.logStream, log });
    case 'stdout':
      return makeStdoutSink();
  }
}
