import {
  DescribeLogStreamsCommand,
  GetLogEventsCommand,
  ResourceNotFoundException,
  type CloudWatchLogsClient,
} from '@aws-sdk/client-cloudwatch-logs';
import { NotReadableError } from '../../sink.ts';
import { joinEnds, readEnd, type StoredRecord, type StreamEnd, type Tail } from '../../tail.ts';
import { callWithin } from './client.ts';

/** Streams that are looked at: each host writes one, and one of them at a time. */
const MAX_STREAMS = 10;
/** Of a stream, from its end. A full page holds a megabyte, and at most 1,000 events lie between two seals. */
const MAX_BYTES = 5_000_000;
/** The service may give pages that are empty, or full in part, before the stream's beginning. */
const MAX_PAGES = 50;

interface Place {
  readonly logGroup: string;
  readonly ownStream: string;
}

/**
 * What a log group holds of a trail at its end. It looks at the ends of the streams that got events last, and of `ownStream`, because
 * the service may learn of a stream's last event an hour late; in each so far back as a seal of the trail.
 *
 * @throws NotReadableError when the permissions are missing; the SDK's error once its retries are used up; the signal's reason
 */
export async function readTail(
  client: CloudWatchLogsClient,
  { logGroup, ownStream }: Place,
  trail: string,
  signal: AbortSignal,
): Promise<Tail> {
  try {
    const streams = new Set([ownStream, ...(await latestStreams(client, logGroup, signal))]);
    const ends: (StreamEnd & { cut: boolean })[] = [];
    for (const stream of streams) {
      const read = (nextToken?: string) => readPage(client, logGroup, stream, signal, nextToken);
      ends.push(await readStream(read, trail));
    }
    const tail = joinEnds(trail, ends);
    const isCut = ends.some(
      ({ cut, events }) => cut && (events.length > 0 || tail.seals.length === 0),
    );
    return isCut ? { ...tail, unsure: cutSentence(logGroup) } : tail;
  } catch (error) {
    if (!(error instanceof Error && error.name === 'AccessDeniedException')) throw error;
    throw new NotReadableError(
      `The log group ${logGroup} can't be read: allow logs:DescribeLogStreams and logs:GetLogEvents on it.`,
      { cause: error },
    );
  }
}

function cutSentence(logGroup: string): string {
  return `The last ${MAX_BYTES / 1e6} MB of a stream of the log group ${logGroup} hold no seal of this trail: give the trail a log group of its own.`;
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

interface StreamPage {
  readonly records: StoredRecord[];
  /** Null at the stream's beginning. */
  readonly before: string | null;
}

/** Reads a stream backwards to the last page that has a seal of the trail; `cut` says that it gave up before the stream's beginning. */
async function readStream(
  read: (nextToken?: string) => Promise<StreamPage>,
  trail: string,
): Promise<StreamEnd & { cut: boolean }> {
  let records: StoredRecord[] = [];
  let token: string | undefined;
  let bytes = 0;
  for (let pages = 1; ; pages++) {
    const page = await read(token);
    for (const { message } of page.records) bytes += Buffer.byteLength(message);
    records = [...page.records, ...records];
    const isEnd = page.before === null || readEnd(page.records, trail).seals.length > 0;
    if (isEnd || bytes >= MAX_BYTES || pages === MAX_PAGES)
      return { ...readEnd(records, trail), cut: !isEnd };
    token = page.before;
  }
}

async function readPage(
  client: CloudWatchLogsClient,
  logGroup: string,
  stream: string,
  signal: AbortSignal,
  nextToken: string | undefined,
): Promise<StreamPage> {
  const command = new GetLogEventsCommand({
    logGroupName: logGroup,
    logStreamName: stream,
    startFromHead: false,
    ...(nextToken === undefined ? {} : { nextToken }),
  });
  const answer = await orNothing(callWithin((options) => client.send(command, options), signal));
  const records = (answer?.events ?? []).map(({ message = '', timestamp = 0 }) => ({
    message,
    storedAt: timestamp,
  }));
  // The same token again: that was the stream's beginning. An empty page is none.
  const before = answer?.nextBackwardToken;
  return { records, before: before === undefined || before === nextToken ? null : before };
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
