// A stand-in for CloudWatch Logs on a loopback port, written from the service's documentation and
// from messages that users of the service have published. IT WAS NEVER CHECKED AGAINST AWS. It is
// stricter than most clients need: what it takes, the documentation says AWS takes.
//
// How it may differ from AWS, as far as is known:
// - The words of its errors are those that users have published, or made up; only the names of the
//   exceptions are documented. Where a call breaks two rules, AWS may name the other one.
// - An event or batch that is too large, and a member that breaks a constraint, may come back under
//   another name (ValidationException, a 413 from a proxy). The limits are taken as documented: at the
//   limit is taken, one over isn't.
// - The documentation doesn't say whether the 24 hours count events that are rejected one by one; here
//   they don't. Nor does it say which of "too old" and "expired" an event is that is both; here both.
// - Signatures are looked at and not verified. There are no quotas, and no throttling but what a test asks for.
// - What was accepted can be read at once, and is never removed by the group's retention. AWS takes seconds.
// - FilterLogEvents knows `{ $.key = "value" }` and no other pattern; AWS orders events of the same
//   millisecond in ways of its own.
// - DescribeLogStreams knows a stream's last event at once. AWS may take an hour.
// - It speaks HTTP without TLS, and forgets everything at close.
import { createServer } from 'node:http';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import {
  Fault,
  checkBatch,
  checkGroupName,
  checkStreamName,
  parseEvents,
  rejectedOf,
} from './cloudwatch_rules.ts';
import type { Input, RejectedInfo, StoredEvent } from './cloudwatch_rules.ts';
import { filterLogEvents } from './cloudwatch_filter.ts';
import type { FilterInput, Stream } from './cloudwatch_filter.ts';
import { describeLogStreams, getLogEvents } from './cloudwatch_read.ts';

export interface Call {
  readonly operation: string;
  readonly group: string;
  readonly stream: string;
  /** What PutLogEvents was asked to store. */
  readonly events: readonly StoredEvent[];
  /**
   * 'ok', the name of the exception, or of the injected failure that left the caller without a
   * whole answer.
   */
  outcome: string;
}

/**
 * throttle: 429; unavailable: 503; denied: 400 AccessDeniedException; oversize: 413; reset: the connection is
 * reset after the events are stored; drip: they are stored, and the answer comes a byte at a time
 * and never ends; hang: nothing is stored, and no answer comes; reject: those indices are reported
 * as rejected, inside an answer of 200, and the rest is stored.
 */
export type Failure =
  | 'throttle'
  | 'unavailable'
  | 'denied'
  | 'oversize'
  | 'reset'
  | 'drip'
  | 'hang'
  | { readonly reject: RejectedInfo };

export interface CloudWatchServer {
  readonly url: string;
  readonly calls: readonly Call[];
  /** What a stream holds, in the order of arrival; nothing when there is no such stream. */
  stored(group: string, stream: string): readonly StoredEvent[];
  createStream(
    group: string,
    stream: string,
    options?: { retentionDays?: number; events?: readonly StoredEvent[] },
  ): void;
  deleteStream(group: string, stream: string): void;
  deleteGroup(group: string): void;
  /** Makes the next calls of an operation fail, `times` of them; several failures are used up in turn. */
  failNext(failure: Failure, times?: number, operation?: string): void;
  /** From here on calls work again. */
  forgetFailures(): void;
  /** Answers InvalidParameterException to every batch that holds such a message. */
  refuse(matches: (message: string) => boolean): void;
  close(): Promise<void>;
}

const AUTHORIZATION =
  /^AWS4-HMAC-SHA256 Credential=[^/\s]+\/\d{8}\/[a-z0-9-]+\/logs\/aws4_request, SignedHeaders=[a-z0-9;-]+, Signature=[0-9a-f]{64}$/;

interface Group {
  retentionDays: number | null;
  readonly streams: Map<string, Stream>;
}

const newGroup = (): Group => ({ retentionDays: null, streams: new Map() });

/**
 * Starts the server on a free port of 127.0.0.1, with no groups.
 *
 * @param options.clockOffsetMs how far its clock is ahead of this machine's
 * @param options.scan how many events a call of FilterLogEvents looks at: fewer make pages that are empty
 * @param options.empty how many empty pages GetLogEvents gives before a stream's last records
 */
export async function makeCloudWatchServer({
  clockOffsetMs = 0,
  scan = 10_000,
  empty = 0,
} = {}): Promise<CloudWatchServer> {
  const now = () => Date.now() + clockOffsetMs;
  const groups = new Map<string, Group>();
  const calls: Call[] = [];
  const failures: { failure: Failure; operation: string }[] = [];
  let refused: (message: string) => boolean = () => false;

  function groupOf(name = ''): Group {
    const group = groups.get(name);
    if (!group)
      throw new Fault('ResourceNotFoundException', 'The specified log group does not exist.');
    return group;
  }

  function streamOf(group: Group, name = ''): Stream {
    const stream = group.streams.get(name);
    if (!stream)
      throw new Fault('ResourceNotFoundException', 'The specified log stream does not exist.');
    return stream;
  }

  function putLogEvents(input: Input, injected: RejectedInfo | null): object {
    const batch = parseEvents(input);
    const group = groupOf(input.logGroupName);
    const stream = streamOf(group, input.logStreamName);
    if (batch.some(({ message }) => refused(message))) {
      throw new Fault('InvalidParameterException', 'Log event is not acceptable.');
    }
    checkBatch(batch, now());
    const info = injected ?? rejectedOf(batch, group.retentionDays, now());
    const start = Math.max(info.tooOldLogEventEndIndex ?? 0, info.expiredLogEventEndIndex ?? 0);
    const taken = batch.slice(start, info.tooNewLogEventStartIndex ?? batch.length);
    stream.events.push(...taken);
    stream.arrivals.push(...taken.map(now));
    const answer = { nextSequenceToken: String(calls.length).padStart(56, '0') };
    return Object.keys(info).length === 0 ? answer : { ...answer, rejectedLogEventsInfo: info };
  }

  function createLogGroup(input: Input): object {
    const name = checkGroupName(input.logGroupName);
    if (groups.has(name))
      throw new Fault('ResourceAlreadyExistsException', 'The specified log group already exists');
    groups.set(name, newGroup());
    return {};
  }

  function createLogStream(input: Input): object {
    const name = checkStreamName(input.logStreamName);
    const group = groupOf(input.logGroupName);
    if (group.streams.has(name)) {
      throw new Fault('ResourceAlreadyExistsException', 'The specified log stream already exists');
    }
    group.streams.set(name, { events: [], arrivals: [] });
    return {};
  }

  function perform(operation: string, input: Input, injected: RejectedInfo | null): object {
    if (operation === 'PutLogEvents') return putLogEvents(input, injected);
    if (operation === 'CreateLogGroup') return createLogGroup(input);
    if (operation === 'CreateLogStream') return createLogStream(input);
    if (operation === 'FilterLogEvents') return filter(input);
    if (operation === 'DescribeLogStreams')
      return describeLogStreams(input, groupOf(input.logGroupName).streams);
    if (operation === 'GetLogEvents')
      return getLogEvents(input, streamOf(groupOf(input.logGroupName), input.logStreamName), empty);
    throw new Fault('UnknownOperationException', '');
  }

  function filter(input: FilterInput): object {
    checkGroupName(input.logGroupName);
    return filterLogEvents(input, groupOf(input.logGroupName).streams, scan);
  }

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = await text(request);
    const operation = checkRequest(request);
    const input = parseBody(body);
    const call = record(operation, input);
    calls.push(call);
    const at = failures.findIndex((planned) => planned.operation === operation);
    const failure = at < 0 ? null : (failures.splice(at, 1)[0]?.failure ?? null);
    try {
      const early = typeof failure === 'string' ? FAULTS[failure] : undefined;
      if (early) throw early();
      call.outcome = typeof failure === 'string' ? failure : 'ok';
      if (failure === 'hang') return;
      const output = JSON.stringify(
        perform(operation, input, typeof failure === 'object' ? (failure?.reject ?? null) : null),
      );
      if (failure === 'reset') request.socket.resetAndDestroy();
      else if (failure === 'drip') drip(response);
      else reply(response, 200, output);
    } catch (error) {
      call.outcome = error instanceof Error ? error.name : 'unknown';
      throw error;
    }
  }

  const server = createServer((request, response) => {
    response.setHeader('date', new Date(now()).toUTCString());
    answer(request, response).catch((error: unknown) => {
      const fault =
        error instanceof Fault ? error : new Fault('InternalServerException', String(error), 500);
      reply(response, fault.status, JSON.stringify({ __type: fault.name, message: fault.message }));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));

  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    calls,
    stored: (group, stream) => groups.get(group)?.streams.get(stream)?.events ?? [],
    createStream(group, stream, options = {}) {
      const { retentionDays, streams } = groups.get(group) ?? newGroup();
      groups.set(group, { streams, retentionDays: options.retentionDays ?? retentionDays });
      const events = [...(options.events ?? [])];
      streams.set(stream, { events, arrivals: events.map(now) });
    },
    deleteStream: (group, stream) => void groups.get(group)?.streams.delete(stream),
    deleteGroup: (group) => void groups.delete(group),
    failNext(failure, times = 1, operation = 'PutLogEvents') {
      for (let i = 0; i < times; i++) failures.push({ failure, operation });
    },
    forgetFailures: () => void (failures.length = 0),
    refuse: (matches) => void (refused = matches),
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

const FAULTS: Partial<Record<string, () => Fault>> = {
  throttle: () => new Fault('ThrottlingException', 'Rate exceeded', 429),
  unavailable: () => new Fault('ServiceUnavailableException', 'Service Unavailable', 503),
  oversize: () => new Fault('RequestEntityTooLargeException', 'Request entity too large', 413),
  denied: () => new Fault('AccessDeniedException', 'User is not authorized to perform this action'),
};

/** @returns the operation's name */
function checkRequest({ method, url, headers }: IncomingMessage): string {
  if (
    method !== 'POST' ||
    url !== '/' ||
    headers['content-type'] !== 'application/x-amz-json-1.1'
  ) {
    throw new Fault('UnknownOperationException', '', 404);
  }
  if (!AUTHORIZATION.test(headers.authorization ?? '')) {
    throw new Fault('MissingAuthenticationTokenException', 'Missing Authentication Token', 403);
  }
  const target = /^Logs_20140328\.(\w+)$/.exec(String(headers['x-amz-target']))?.[1];
  if (target === undefined) throw new Fault('UnknownOperationException', '');
  return target;
}

function parseBody(body: string): Input {
  try {
    return JSON.parse(body) as Input;
  } catch (error) {
    throw new Fault('SerializationException', String(error));
  }
}

function record(operation: string, input: Input): Call {
  return {
    operation,
    group: input.logGroupName ?? '',
    stream: input.logStreamName ?? '',
    events: (input.logEvents ?? []) as StoredEvent[],
    outcome: '',
  };
}

function reply(response: ServerResponse, status: number, body: string): void {
  response.writeHead(status, {
    'content-type': 'application/x-amz-json-1.1',
    'content-length': Buffer.byteLength(body),
  });
  response.end(body);
}

/** Announces a long answer and sends a space of it every 10 ms until the client goes away. */
function drip(response: ServerResponse): void {
  response.writeHead(200, {
    'content-type': 'application/x-amz-json-1.1',
    'content-length': 1_000_000,
  });
  const timer = setInterval(() => response.write(' '), 10);
  response.once('close', () => clearInterval(timer));
}
