// FilterLogEvents of the loopback server: pages, tokens and the one form of pattern that is used.
import { createHash } from 'node:crypto';
import { Fault, checkGroupName } from './cloudwatch_rules.ts';
import type { StoredEvent } from './cloudwatch_rules.ts';

/** A log stream: its events in the order of arrival, and when each of them arrived. */
export interface Stream {
  readonly events: StoredEvent[];
  readonly arrivals: number[];
}

export interface FilterInput {
  logGroupName?: string;
  logStreamNames?: string[];
  logStreamNamePrefix?: string;
  startTime?: number;
  endTime?: number;
  filterPattern?: string;
  nextToken?: string;
  limit?: number;
}

interface Found extends StoredEvent {
  readonly logStreamName: string;
  readonly ingestionTime: number;
  readonly eventId: string;
}

const MAX_LIMIT = 10_000;
const MAX_PAGE_BYTES = 1_048_576;
/** `{ $.key = "value" }`: a key at the top of a JSON message that holds this string. */
const PATTERN = /^\{ *\$\.([A-Za-z]+) *= *"([^"\\]*)" *\}$/;

/**
 * One page of a group's events in the order of their timestamps.
 *
 * @param scan how many events one call looks at: the service too may answer with a page that is empty and a token
 * @throws Fault for an argument that the service would refuse, or that this server doesn't know
 */
export function filterLogEvents(
  input: FilterInput,
  streams: ReadonlyMap<string, Stream>,
  scan: number,
): object {
  const { limit = MAX_LIMIT, nextToken } = input;
  if (!Number.isInteger(limit) || limit < 1 || limit > MAX_LIMIT) {
    throw invalid(`limit must be between 1 and ${MAX_LIMIT}.`);
  }
  const matches = makeMatcher(input.filterPattern);
  const candidates = candidatesOf(input, streams);
  const start = nextToken === undefined ? 0 : positionOf(nextToken, input, candidates);
  const events: Found[] = [];
  let bytes = 0;
  let at = start;
  for (; at < candidates.length && at < start + scan && events.length < limit; at++) {
    const event = candidates[at];
    if (event === undefined || !matches(event.message)) continue;
    bytes += Buffer.byteLength(event.message);
    if (events.length > 0 && bytes > MAX_PAGE_BYTES) break;
    events.push(event);
  }
  const last = candidates[at - 1];
  const more = at < candidates.length && last !== undefined;
  return { events, searchedLogStreams: [], ...(more && { nextToken: tokenOf(input, last) }) };
}

function candidatesOf(input: FilterInput, streams: ReadonlyMap<string, Stream>): Found[] {
  const { logStreamNames, logStreamNamePrefix, startTime = 0, endTime = Infinity } = input;
  if (logStreamNames !== undefined && logStreamNamePrefix !== undefined) {
    throw invalid('Either logStreamNames or logStreamNamePrefix may be specified, not both.');
  }
  for (const name of logStreamNames ?? []) {
    if (!streams.has(name))
      throw new Fault('ResourceNotFoundException', 'The specified log stream does not exist.');
  }
  return [...streams]
    .filter(
      ([name]) => logStreamNames?.includes(name) ?? name.startsWith(logStreamNamePrefix ?? ''),
    )
    .flatMap(([logStreamName, { events, arrivals }]) =>
      events.map(({ timestamp, message }, i) => ({
        logStreamName,
        timestamp,
        message,
        ingestionTime: arrivals[i] ?? timestamp,
        eventId: `${digest(logStreamName)}${String(i).padStart(40, '0')}`,
      })),
    )
    .filter(({ timestamp }) => timestamp >= startTime && timestamp <= endTime)
    .toSorted((a, b) => a.timestamp - b.timestamp);
}

function makeMatcher(pattern = ''): (message: string) => boolean {
  if (pattern === '') return () => true;
  const [, key, value] = PATTERN.exec(pattern) ?? [];
  if (key === undefined || value === undefined) {
    throw invalid(`Invalid filter pattern, or one that this server does not know: ${pattern}`);
  }
  return (message) => {
    try {
      return (JSON.parse(message) as Record<string, unknown>)[key] === value;
    } catch (error) {
      if (error instanceof SyntaxError) return false;
      throw error;
    }
  };
}

/** A token is good for the request that it came from, whatever has been stored meanwhile. */
function tokenOf(input: FilterInput, last: Found): string {
  return `${requestOf(input)}/${last.eventId}`;
}

function positionOf(token: string, input: FilterInput, candidates: readonly Found[]): number {
  const [request, eventId] = token.split('/');
  const last = candidates.findIndex((event) => event.eventId === eventId);
  if (request !== requestOf(input) || last < 0)
    throw invalid('The specified nextToken is invalid.');
  return last + 1;
}

function requestOf(input: FilterInput): string {
  checkGroupName(input.logGroupName);
  return digest(JSON.stringify({ ...input, nextToken: undefined, limit: undefined }));
}

function digest(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 16);
}

function invalid(message: string): Fault {
  return new Fault('InvalidParameterException', message);
}
