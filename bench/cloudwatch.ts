import { CloudWatchLogsClient } from '@aws-sdk/client-cloudwatch-logs';
import { makeCloudWatchSink } from '../src/audit/delivery/sinks/cloudwatch/sink.ts';
import type { Sink } from '../src/audit/delivery/sink.ts';
import type { Logger } from '../src/lib/log.ts';
import { startLoad } from './load.ts';

/** The tests' CloudWatch Logs, in a process of its own, so that it doesn't take the time of what is measured. */
export interface CloudWatchProcess {
  readonly makeSink: (log: Logger) => Sink;
  stop(): Promise<void>;
}

export async function startCloudWatch(): Promise<CloudWatchProcess> {
  const server = await startLoad<object, string>('cloudwatch', {});
  const url = await server.run({});
  return {
    makeSink(log) {
      const client = new CloudWatchLogsClient({
        endpoint: url,
        region: 'eu-north-1',
        credentials: { accessKeyId: 'AKIDEXAMPLE', secretAccessKey: 'secret' },
      });
      return makeCloudWatchSink({ client, logGroup: '/bench', logStream: 'bench', log });
    },
    stop: () => server.stop(),
  };
}
