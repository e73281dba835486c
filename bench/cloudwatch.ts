import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { CloudWatchLogsClient } from '@aws-sdk/client-cloudwatch-logs';
import { makeCloudWatchSink } from '../src/audit/cloudwatch.ts';
import type { Sink } from '../src/audit/sink.ts';
import type { Logger } from '../src/log.ts';

/** The tests' CloudWatch Logs, in a process of its own, so that it doesn't take the time of what is measured. */
export interface CloudWatchProcess {
  readonly makeSink: (log: Logger) => Sink;
  stop(): Promise<void>;
}

const SERVER = fileURLToPath(new URL('cloudwatch_process.ts', import.meta.url));

export async function startCloudWatch(): Promise<CloudWatchProcess> {
  const child = fork(SERVER, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
  const [url] = (await once(child, 'message')) as [string];
  return {
    makeSink(log) {
      const client = new CloudWatchLogsClient({
        endpoint: url,
        region: 'eu-north-1',
        credentials: { accessKeyId: 'AKIDEXAMPLE', secretAccessKey: 'secret' },
      });
      return makeCloudWatchSink({ client, logGroup: '/bench', logStream: 'bench', log });
    },
    async stop() {
      const exited = once(child, 'exit');
      child.disconnect();
      await exited;
    },
  };
}
