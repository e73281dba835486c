// The limits of CloudWatch Logs, from its documentation, with the exceptions and messages by which
// it refuses. Like the server that uses them, they were never checked against AWS.

export interface StoredEvent {
  readonly timestamp: number;
  readonly message: string;
}

export interface RejectedInfo {
  readonly tooNewLogEventStartIndex?: number;
  readonly tooOldLogEventEndIndex?: number;
  readonly expiredLogEventEndIndex?: number;
}

export interface Input {
  logGroupName?: string;
  logStreamName?: string;
  logEvents?: { timestamp?: unknown; message?: unknown }[];
}

const MAX_BYTES = 1_048_576;
const OVERHEAD_BYTES = 26;
const MAX_EVENTS = 10_000;
const HOUR_MS = 3_600_000;
const GROUP_NAME = /^[.\-_/#A-Za-z0-9]{1,512}$/;
const STREAM_NAME = /^[^:*]{1,512}$/;

/** An exception of the service, as it goes over the wire. */
export class Fault extends Error {
  override readonly name: string;
  readonly status: number;
  constructor(name: string, message: string, status = 400) {
    super(message);
    this.name = name;
    this.status = status;
  }
}

export function checkGroupName(value: string | undefined): string {
  return checkName('logGroupName', value, GROUP_NAME);
}

export function checkStreamName(value: string | undefined): string {
  return checkName('logStreamName', value, STREAM_NAME);
}

/** The checks that look at each member by itself. */
export function parseEvents(input: Input): StoredEvent[] {
  checkGroupName(input.logGroupName);
  checkStreamName(input.logStreamName);
  const events = input.logEvents ?? [];
  if (events.length < 1) throw violated('logEvents', 'have length greater than or equal to 1');
  if (events.length > MAX_EVENTS)
    throw violated('logEvents', `have length less than or equal to ${MAX_EVENTS}`);
  return events.map(({ timestamp, message }, i) => {
    const member = `logEvents.${i + 1}.member`;
    if (typeof timestamp !== 'number' || !Number.isInteger(timestamp) || timestamp < 0) {
      throw violated(`${member}.timestamp`, 'have value greater than or equal to 0');
    }
    if (typeof message !== 'string' || message === '') {
      throw violated(`${member}.message`, 'have length greater than or equal to 1');
    }
    return { timestamp, message };
  });
}

function checkName(member: string, value: string | undefined, pattern: RegExp): string {
  if (value === undefined || !pattern.test(value)) {
    throw violated(member, `satisfy regular expression pattern: ${pattern.source}`);
  }
  return value;
}

function violated(member: string, constraint: string): Fault {
  return new Fault(
    'InvalidParameterException',
    `1 validation error detected: Value at '${member}' failed to satisfy constraint: Member must ${constraint}`,
  );
}

/** The checks by which a whole call fails. */
export function checkBatch(batch: readonly StoredEvent[], now: number): void {
  const sizes = batch.map(({ message }) => Buffer.byteLength(message) + OVERHEAD_BYTES);
  const largest = sizes.reduce((a, b) => Math.max(a, b), 0);
  if (largest > MAX_BYTES)
    throw invalid(`Log event too large: ${largest} bytes exceeds limit of ${MAX_BYTES}`);
  const total = sizes.reduce((a, b) => a + b, 0);
  if (total > MAX_BYTES)
    throw invalid(`Upload too large: ${total} bytes exceeds limit of ${MAX_BYTES}`);
  if (batch.some(({ timestamp }, i) => timestamp < (batch[i - 1]?.timestamp ?? 0))) {
    throw invalid('Log events in a single PutLogEvents request must be in chronological order.');
  }
  // The span counts events with valid timestamps only; the others are rejected one by one.
  const valid = batch.filter(
    ({ timestamp }) => timestamp >= now - 14 * 24 * HOUR_MS && timestamp <= now + 2 * HOUR_MS,
  );
  if ((valid.at(-1)?.timestamp ?? 0) - (valid[0]?.timestamp ?? 0) > 24 * HOUR_MS) {
    throw invalid(
      'The batch of log events in a single PutLogEvents request cannot span more than 24 hours.',
    );
  }
}

function invalid(message: string): Fault {
  return new Fault('InvalidParameterException', message);
}

/**
 * The events of a chronological batch that aren't stored: old ones at its head, new ones at its
 * tail.
 */
export function rejectedOf(
  batch: readonly StoredEvent[],
  retentionDays: number | null,
  now: number,
): RejectedInfo {
  const countBefore = (time: number) => batch.filter(({ timestamp }) => timestamp < time).length;
  const tooOld = countBefore(now - 14 * 24 * HOUR_MS);
  const expired = retentionDays === null ? 0 : countBefore(now - retentionDays * 24 * HOUR_MS);
  const tooNew = batch.findIndex(({ timestamp }) => timestamp > now + 2 * HOUR_MS);
  return {
    ...(tooOld > 0 && { tooOldLogEventEndIndex: tooOld }),
    ...(expired > 0 && { expiredLogEventEndIndex: expired }),
    ...(tooNew >= 0 && { tooNewLogEventStartIndex: tooNew }),
  };
}
