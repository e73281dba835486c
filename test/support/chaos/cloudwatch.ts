import type { CloudWatchServer } from '../cloudwatch_server.ts';
import type { Destination } from './site.ts';

const GROUP = '/halyard/chaos';
/** One for all workers of a site, so that it holds the events in the order of their arrival. */
const STREAM = 'chaos';

/**
 * The loopback server as the destination of a site's workers.
 *
 * @param url where the workers find it, when that is by way of a proxy
 */
export function cloudWatchDestination(
  server: () => CloudWatchServer,
  url: string = server().url,
): Destination {
  return {
    name: `cloudwatch:${GROUP}`,
    env: {
      AUDIT_SINK: 'cloudwatch',
      AUDIT_LOG_GROUP: GROUP,
      AUDIT_LOG_STREAM: STREAM,
      AWS_ENDPOINT_URL: url,
      AWS_REGION: 'eu-north-1',
      AWS_ACCESS_KEY_ID: 'AKIDEXAMPLE',
      AWS_SECRET_ACCESS_KEY: 'secret',
    },
    copy: () =>
      Promise.resolve({
        destination: 'cloudwatch',
        lines: server()
          .stored(GROUP, STREAM)
          .map(({ message }) => message),
      }),
  };
}
