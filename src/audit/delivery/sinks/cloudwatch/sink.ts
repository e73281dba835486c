import {
  CloudWatchLogsServiceException,
  type CloudWatchLogsClient,
  type RejectedLogEventsInfo,
} from '@aws-sdk/client-cloudwatch-logs';
import { cutBatches, restamp, toEntry, toStub, type Entry } from './batch.ts';
import { putLogEvents, type LogStream } from './stream.ts';
import { readTail } from './tail.ts';
import { makeDegradedCounts } from '../../degraded.ts';
import type { Sink } from '../../sink.ts';
import { restampedRecords } from './degraded.ts';

export type CloudWatchSink = Sink & Required<Pick<Sink, 'degraded'>>;

/** How often the rejected part of a batch is stamped again: once, unless a clock is wrong. */
const MAX_RESTAMPS = 3;

/** Refusals of what a request holds, so of an event perhaps. So is any 413: JSON's escapes can double a request's length. */
const REFUSALS = new Set([
  'InvalidParameterException',
  'ValidationException',
  'SerializationException',
]);

/** What to do about errors that an operator can put right. */
const ADVICE: Readonly<Record<string, string>> = {
  AccessDeniedException: 'allow logs:PutLogEvents on the log group',
  CredentialsProviderError: 'give the process AWS credentials',
  ExpiredTokenException: 'renew the AWS credentials',
  InvalidSignatureException: 'check the AWS secret key and the clock',
  UnrecognizedClientException: 'check the AWS credentials',
};

/**
 * A sink that ships audit events to one CloudWatch Logs stream with PutLogEvents: byte for byte, because the trail's hashes are
 * taken of them; only a stub has a text of its own. So events that the service finds too old are named by a record behind them,
 * `audit.restamped` (degraded.ts), and by a warning, and `degraded()` counts them.
 *
 * Order is kept, but for events that the service rejects inside an answer of 200: those follow the others of their batch. When
 * an answer is lost, events arrive twice, in order each time: readers drop the repeats by eventId.
 *
 * @param options.client the sink destroys it when it closes
 */
export function makeCloudWatchSink(
  options: LogStream & { readonly client: CloudWatchLogsClient },
): CloudWatchSink {
  const { client, log } = options;
  const closing = new AbortController();
  const degraded = makeDegradedCounts(log, ['late', 'ahead', 'stubbed']);

  /** The service's time as the SDK has learnt it from answers: a stamp by a clock that is hours off would be rejected. */
  const now = () => Date.now() + client.config.systemClockOffset;

  /** Sends one batch, and what the service rejects again, until it has all; `arrived` gets how many more it has, in order. */
  async function deliver(
    batch: readonly Entry[],
    signal: AbortSignal,
    arrived: (count: number) => void,
  ): Promise<void> {
    const taken: Entry[] = [];
    let pending = batch;
    for (let restamps = 0; pending.length > 0; restamps++) {
      if (restamps > MAX_RESTAMPS)
        throw new Error(
          `CloudWatch Logs rejected the present time as a timestamp ${restamps} times; check the clock`,
        );
      let rejected: ReturnType<typeof split>;
      try {
        rejected = split(pending, await putLogEvents(client, options, pending, signal));
      } catch (error) {
        if (!isRefusal(error)) throw error;
        if (pending === batch) return isolate(batch, error, signal, arrived);
        // What is left isn't the batch's beginning: it counts when all of it has arrived.
        await isolate(pending, error, signal, () => undefined);
        break;
      }
      taken.push(...rejected.accepted);
      const { late, ahead } = rejected;
      pending = [...restamp(late, now(), 'late'), ...restamp(ahead, now(), 'ahead')];
    }
    await mark(taken, signal);
    arrived(batch.length);
  }

  /** Says to the log and to the readers of the stream what is unusual about entries that have arrived. */
  async function mark(taken: readonly Entry[], signal: AbortSignal): Promise<void> {
    for (const reason of ['late', 'ahead'] as const)
      degraded.note(
        reason,
        eventsWhere(taken, ({ restamped }) => restamped === reason),
      );
    degraded.note(
      'stubbed',
      eventsWhere(taken, ({ stub }) => stub !== null),
    );
    const time = now();
    const records = restampedRecords(taken, time).map((record) => toEntry(record, time));
    if (records.length === 0) return;
    const rejected = split(records, await putLogEvents(client, options, records, signal));
    if (rejected.accepted.length < records.length)
      throw new Error('CloudWatch Logs rejected the time of an audit.restamped record');
  }

  /** Halves a refused batch until the event at fault is alone, for a stub. When that is refused too, the request is at fault. */
  async function isolate(
    batch: readonly Entry[],
    refusal: Error,
    signal: AbortSignal,
    arrived: (count: number) => void,
  ): Promise<void> {
    const [entry] = batch;
    if (entry === undefined || (batch.length === 1 && entry.stub === 'refused')) throw refusal;
    if (batch.length === 1) {
      await deliver([toStub(entry, 'refused')], signal, arrived);
      const { seq, eventId } = entry.event;
      log.error(
        { err: refusal, seq, eventId },
        'CloudWatch Logs refuses an audit event; a stub stands in its place',
      );
      return;
    }
    const half = Math.ceil(batch.length / 2);
    await deliver(batch.slice(0, half), signal, arrived);
    await deliver(batch.slice(half), signal, arrived);
  }

  return {
    async send(events, caller, confirmed) {
      const signal = AbortSignal.any([caller, closing.signal]);
      let count = 0;
      const arrived = (more: number) => confirmed?.((count += more));
      for (const batch of cutBatches(events, now())) {
        try {
          await deliver(batch, signal, arrived);
        } catch (error) {
          throw signal.aborted ? signal.reason : explain(error, batch, options);
        }
      }
    },
    readTail(trail, caller) {
      const signal = AbortSignal.any([caller, closing.signal]);
      const place = { logGroup: options.logGroup, ownStream: options.logStream };
      return readTail(client, place, trail, signal);
    },
    close() {
      closing.abort(new Error('The CloudWatch sink is closed'));
      client.destroy();
      return Promise.resolve();
    },
    degraded: degraded.counts,
  };
}

function eventsWhere(entries: readonly Entry[], filter: (entry: Entry) => boolean) {
  return entries.filter(filter).map(({ event }) => event);
}

/** What the service stored and rejected, inside an answer of 200. "end" is exclusive; absent when nothing was rejected. */
function split(batch: readonly Entry[], info: RejectedLogEventsInfo) {
  const start = Math.max(info.tooOldLogEventEndIndex ?? 0, info.expiredLogEventEndIndex ?? 0);
  const end = Math.max(info.tooNewLogEventStartIndex ?? batch.length, start);
  return {
    accepted: batch.slice(start, end),
    late: batch.slice(0, start),
    ahead: batch.slice(end),
  };
}

function isRefusal(error: unknown): error is Error {
  if (error instanceof CloudWatchLogsServiceException && error.$metadata.httpStatusCode === 413)
    return true;
  return error instanceof Error && REFUSALS.has(error.name);
}

function explain(error: unknown, batch: readonly Entry[], to: LogStream): Error {
  const { name, message } = error instanceof Error ? error : new Error(String(error));
  const advice = ADVICE[name] === undefined ? '' : `; ${ADVICE[name]}`;
  const range = `${batch.at(0)?.event.seq ?? 0} to ${batch.at(-1)?.event.seq ?? 0}`;
  const stream = `${to.logGroup}, stream ${to.logStream}`;
  const sentence = `CloudWatch Logs did not take audit events ${range} for ${stream}`;
  return new Error(`${sentence}: ${message}${advice}`, { cause: error });
}
