import {
  CreateLogGroupCommand,
  CreateLogStreamCommand,
  PutLogEventsCommand,
  ResourceAlreadyExistsException,
  ResourceNotFoundException,
  type CloudWatchLogsClient,
  type RejectedLogEventsInfo,
} from '@aws-sdk/client-cloudwatch-logs';
import type { Logger } from '../../../../lib/log.ts';
import type { Entry } from './batch.ts';
import { callWithin } from './client.ts';

/** Where in CloudWatch Logs events go. */
export interface LogStream {
  readonly logGroup: string;
  readonly logStream: string;
  readonly log: Logger;
}

/** How often a stream that is missing again is created again before one put is given up. */
const MAX_CREATIONS = 3;

/**
 * Sends one batch, which must be within the service's limits, and creates the stream when it isn't there.
 *
 * @returns what the service rejected of it, inside its answer of 200
 * @throws the SDK's error once its retries are used up; the signal's reason; Error when the stream may not be created
 */
export async function putLogEvents(
  client: CloudWatchLogsClient,
  { logGroup, logStream, log }: LogStream,
  batch: readonly Entry[],
  signal: AbortSignal,
): Promise<RejectedLogEventsInfo> {
  const command = new PutLogEventsCommand({
    logGroupName: logGroup,
    logStreamName: logStream,
    logEvents: batch.map(({ timestamp, message }) => ({ timestamp, message })),
  });
  for (let creations = 0; ; creations++) {
    try {
      const answer = await callWithin((options) => client.send(command, options), signal);
      return answer.rejectedLogEventsInfo ?? {};
    } catch (error) {
      if (!(error instanceof ResourceNotFoundException) || creations === MAX_CREATIONS) throw error;
      await createLogStream(client, logGroup, logStream, signal);
      log.info({ logGroup, logStream }, 'created the log stream');
    }
  }
}

/**
 * Creates the stream, and the group where that is missing: roles may often create streams, but no groups. What exists is fine.
 * @throws Error that says which permission is missing; the SDK's error otherwise
 */
async function createLogStream(
  client: CloudWatchLogsClient,
  logGroup: string,
  logStream: string,
  signal: AbortSignal,
): Promise<void> {
  const stream = new CreateLogStreamCommand({ logGroupName: logGroup, logStreamName: logStream });
  const group = new CreateLogGroupCommand({ logGroupName: logGroup });
  const createStream = () =>
    create(`logs:CreateLogStream for ${logStream} in ${logGroup}`, signal, (options) =>
      client.send(stream, options),
    );
  try {
    await createStream();
  } catch (error) {
    if (!(error instanceof ResourceNotFoundException)) throw error;
    await create(`logs:CreateLogGroup for ${logGroup}`, signal, (options) =>
      client.send(group, options),
    );
    await createStream();
  }
}

async function create(
  permission: string,
  signal: AbortSignal,
  call: Parameters<typeof callWithin>[0],
): Promise<void> {
  try {
    await callWithin(call, signal);
  } catch (error) {
    if (error instanceof ResourceAlreadyExistsException) return;
    if (!(error instanceof Error && error.name === 'AccessDeniedException')) throw error;
    const advice = `allow ${permission}, or create the stream`;
    const sentence = `The log stream is missing and may not be created: ${advice}`;
    throw new Error(sentence, { cause: error });
  }
}
