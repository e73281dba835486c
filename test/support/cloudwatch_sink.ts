import { CloudWatchLogsClient } from '@aws-sdk/client-cloudwatch-logs';
import { onTestFinished, vi } from 'vitest';
import { makeCloudWatchSink } from '../../src/audit/delivery/sinks/cloudwatch/sink.ts';
import type { CloudWatchSink } from '../../src/audit/delivery/sinks/cloudwatch/sink.ts';
import { makeCloudWatchClient } from '../../src/audit/delivery/sinks/cloudwatch/client.ts';
import { makeKeptLog } from './audit_events.ts';
import type { LogLine } from './audit_events.ts';
import type { CloudWatchServer } from './cloudwatch_server.ts';

export const GROUP = '/aws/lambda/lego-api-config-domain';
export const STREAM = 'host-1';

type Options = Partial<Parameters<typeof makeCloudWatchSink>[0]>;

/** A client with the SDK's own behaviour, for the loopback server. */
export function makeTestClient(server: CloudWatchServer): CloudWatchLogsClient {
  return new CloudWatchLogsClient({
    endpoint: server.url,
    region: 'eu-north-1',
    credentials: { accessKeyId: 'AKIDEXAMPLE', secretAccessKey: 'secret' },
    maxAttempts: 5,
  });
}

/** A sink on the loopback server, closed with the test, and what it logs. */
export function makeTestSink(
  server: CloudWatchServer,
  options: Options = {},
): { sink: CloudWatchSink; lines: LogLine[] } {
  const { log, lines } = makeKeptLog();
  const client = options.client ?? makeTestClient(server);
  const sink = makeCloudWatchSink({ logGroup: GROUP, logStream: STREAM, log, ...options, client });
  onTestFinished(() => sink.close());
  return { sink, lines };
}

/** A sink whose client comes from the SDK's standard variables, as in production. */
export function makeSinkFromEnvironment(
  server: CloudWatchServer,
  timeouts: Parameters<typeof makeCloudWatchClient>[0] = {},
): CloudWatchSink {
  vi.stubEnv('AWS_ENDPOINT_URL_CLOUDWATCH_LOGS', server.url);
  vi.stubEnv('AWS_ACCESS_KEY_ID', 'AKIDENVIRONMENT');
  vi.stubEnv('AWS_SECRET_ACCESS_KEY', 'secret');
  vi.stubEnv('AWS_REGION', 'eu-west-1');
  onTestFinished(() => void vi.unstubAllEnvs());
  const { log } = makeKeptLog();
  const client = makeCloudWatchClient(timeouts);
  const sink = makeCloudWatchSink({ logGroup: GROUP, logStream: STREAM, log, client });
  onTestFinished(() => sink.close());
  return sink;
}
