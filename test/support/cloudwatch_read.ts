// DescribeLogStreams and GetLogEvents of the loopback server, with the limits that the service documents.
import { Fault } from './cloudwatch_rules.ts';
import type { Input } from './cloudwatch_rules.ts';
import type { Stream } from './cloudwatch_filter.ts';

const MAX_STREAMS = 50;
const MAX_EVENTS = 10_000;
const MAX_BYTES = 1_048_576;

export interface ReadInput extends Input {
  logStreamNamePrefix?: string;
  orderBy?: string;
  descending?: boolean;
  limit?: number;
  startFromHead?: boolean;
  nextToken?: string;
}

export function describeLogStreams(input: ReadInput, streams: ReadonlyMap<string, Stream>): object {
  const { orderBy = 'LogStreamName', descending = false, limit = MAX_STREAMS } = input;
  checkLimit(limit, MAX_STREAMS);
  if (orderBy === 'LastEventTime' && input.logStreamNamePrefix !== undefined)
    throw invalid('Cannot order by LastEventTime with a logStreamNamePrefix.');
  const found = [...streams]
    .filter(([name]) => name.startsWith(input.logStreamNamePrefix ?? ''))
    .map(([logStreamName, { events }]) => ({
      logStreamName,
      ...(events.length > 0 && {
        lastEventTimestamp: events.reduce((last, { timestamp }) => Math.max(last, timestamp), 0),
      }),
    }))
    .toSorted((a, b) =>
      orderBy === 'LastEventTime'
        ? (a.lastEventTimestamp ?? 0) - (b.lastEventTimestamp ?? 0)
        : a.logStreamName.localeCompare(b.logStreamName),
    );
  return { logStreams: (descending ? found.toReversed() : found).slice(0, limit) };
}

/**
 * Pages backwards only. A token is where its page began; at the stream's beginning it is given again.
 *
 * @param empty how many empty pages come first: the service documents that they don't mean the end
 */
export function getLogEvents(input: ReadInput, { events }: Stream, empty: number): object {
  const { limit = MAX_EVENTS, startFromHead = false, nextToken } = input;
  checkLimit(limit, MAX_EVENTS);
  if (startFromHead) throw invalid('This server reads from the tail only.');
  const sorted = events.toSorted((a, b) => a.timestamp - b.timestamp);
  const [, at, left = '0'] =
    /^b\/(\d+)(?:\/(\d+))?$/.exec(nextToken ?? `b/${sorted.length}/${empty}`) ?? [];
  const end = Number(at);
  if (Number.isNaN(end)) throw invalid('The specified nextToken is invalid.');
  if (Number(left) > 0)
    return {
      events: [],
      nextBackwardToken: `b/${end}/${Number(left) - 1}`,
      nextForwardToken: `f/${end}`,
    };
  let from = end;
  let bytes = 0;
  while (from > 0 && end - from < limit) {
    bytes += Buffer.byteLength(sorted[from - 1]?.message ?? '') + 26;
    if (bytes > MAX_BYTES) break;
    from--;
  }
  return {
    events: sorted.slice(from, end),
    nextBackwardToken: `b/${from}`,
    nextForwardToken: `f/${end}`,
  };
}

function checkLimit(limit: number, most: number): void {
  if (!(limit >= 1 && limit <= most))
    throw invalid(`Member 'limit' must be between 1 and ${most}.`);
}

function invalid(message: string): Fault {
  return new Fault('InvalidParameterException', message);
}
