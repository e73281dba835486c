import {
  DescribeLogStreamsCommand,
  GetLogEventsCommand,
  ResourceNotFoundException,
  type CloudWatchLogsClient,
} from '@aws-sdk/client-cloudwatch-logs';
import { readMessage, type Anchor } from '../../../verification/copy.ts';
import { NotReadableError } from '../../sink.ts';
import { callWithin } from './client.ts';

/** Streams that are looked at: each host writes one, and one of them at a time. */
const MAX_STREAMS = 10;
/** Pages of a stream, from its end. A page holds a megabyte, and at most 1,000 events lie between two seals. */
const MAX_PAGES = 5;

/**
 * The newest seal of a trail in a log group, by the time of sealing. It looks at the ends of the streams that got events last, and of
 * `ownStream`, because the service may learn of a stream's last event an hour late.
 *
 * @throws NotReadableError when the permissions are missing; the SDK's error once its retries are used up; the signal's reason
 */
export async function newestSeal(
  client: CloudWatchLogsClient,
  { logGroup, ownStream }: { readonly logGroup: string; readonly ownStream: string },
  trail: string,
  signal: AbortSignal,
): Promise<Anchor | null> {
  try {
    const streams = new Set([ownStream, ...(await latestStreams(client, logGroup, signal))]);
    let newest: Anchor | null = null;
    for (const stream of streams) {
      const seal = await lastSealOf(client, logGroup, stream, trail, signal);
      if (seal !== null && (newest === null || seal.sealedAt > newest.sealedAt)) newest = seal;
    }
    return newest;
  } catch (error) {
    if (!(error instanceof Error && error.name === 'AccessDeniedException')) throw error;
    throw new NotReadableError(
      `The log group ${logGroup} can't be read: allow logs:DescribeLogStreams and logs:GetLogEvents on it.`,
      { cause: error },
    );
  }
}

async function latestStreams(
  client: CloudWatchLogsClient,
  logGroup: string,
  signal: AbortSignal,
): Promise<string[]> {
  const command = new DescribeLogStreamsCommand({
    logGroupName: logGroup,
    orderBy: 'LastEventTime',
    descending: true,
    limit: MAX_STREAMS,
  });
  const answer = await orNothing(callWithin((options) => client.send(command, options), signal));
  return (answer?.logStreams ?? []).flatMap(({ logStreamName }) => logStreamName ?? []);
}

/** The newest seal of the trail in the last page that has one. */
async function lastSealOf(
  client: CloudWatchLogsClient,
  logGroup: string,
  stream: string,
  trail: string,
  signal: AbortSignal,
): Promise<Anchor | null> {
  let nextToken: string | undefined;
  for (let page = 0; page < MAX_PAGES; page++) {
    const command = new GetLogEventsCommand({
      logGroupName: logGroup,
      logStreamName: stream,
      startFromHead: false,
      ...(nextToken === undefined ? {} : { nextToken }),
    });
    const answer = await orNothing(callWithin((options) => client.send(command, options), signal));
    const seals = (answer?.events ?? [])
      .map(({ message }) => readMessage(message ?? ''))
      .filter((found) => found !== null && 'head' in found && found.trail === trail) as Anchor[];
    if (seals.length > 0) return seals.reduce((a, b) => (b.sealedAt > a.sealedAt ? b : a));
    // The same token again: that was the stream's beginning. An empty page is none.
    if (answer?.nextBackwardToken === undefined || answer.nextBackwardToken === nextToken) break;
    nextToken = answer.nextBackwardToken;
  }
  return null;
}

/** What is missing holds nothing. */
async function orNothing<T>(call: Promise<T>): Promise<T | null> {
  try {
    return await call;
  } catch (error) {
    if (error instanceof ResourceNotFoundException) return null;
    throw error;
  }
}
