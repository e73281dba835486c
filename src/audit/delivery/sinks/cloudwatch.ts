import { hostname } from 'node:os';
import { ConfigError } from '../../../config/error.ts';
import { matching } from '../../../config/schemas.ts';
import { FORWARDERS } from '../../../config/setting.ts';
import { defineSink } from './kind.ts';

/** CloudWatch Logs. Each event goes to one of the streams, one a host, so the cursor is the group's. AWS's SDK is loaded when it is used. */
export const cloudwatch = defineSink({
  name: 'cloudwatch',
  title: 'CloudWatch Logs',
  settings: {
    AUDIT_LOG_GROUP: {
      schema: matching(
        /^(?!aws\/)[\w./#-]{1,512}$/,
        "1 to 512 of a-z A-Z 0-9 _ - / . # that don't start with aws/",
      ),
      default: '/aws/lambda/lego-api-config-domain',
      processes: ['start', 'worker', 'audit'],
      doc: 'CloudWatch log group',
    },
    AUDIT_LOG_STREAM: {
      schema: matching(/^[^:*]{1,512}$/, '1 to 512 characters without : and *'),
      unset: "the host's name",
      processes: FORWARDERS,
      doc: 'CloudWatch log stream; one per process that forwards',
    },
  },
  destination: ({ values }) => `cloudwatch:${values.AUDIT_LOG_GROUP}`,
  async make({ values }, log) {
    const { makeCloudWatchClient } = await import('./cloudwatch/client.ts');
    const { makeCloudWatchSink } = await import('./cloudwatch/sink.ts');
    const client = makeCloudWatchClient();
    try {
      await client.config.region();
    } catch (error) {
      client.destroy();
      throw new ConfigError([
        `Set AWS_REGION: AUDIT_SINK=cloudwatch needs it (${error instanceof Error ? error.message : String(error)}).`,
      ]);
    }
    const logStream = values.AUDIT_LOG_STREAM ?? hostname();
    return makeCloudWatchSink({ client, logGroup: values.AUDIT_LOG_GROUP, logStream, log });
  },
  async *readAnchors({ values }, signal) {
    const { makeCloudWatchClient } = await import('./cloudwatch/client.ts');
    const { cloudWatchAnchors } = await import('./cloudwatch/anchors.ts');
    const client = makeCloudWatchClient();
    try {
      yield* cloudWatchAnchors(client, values.AUDIT_LOG_GROUP, signal);
    } finally {
      client.destroy();
    }
  },
});
