import { ExplainedError } from '../../lib/explained.ts';
import type { Tail } from './tail.ts';

/** One event of the audit trail, numbered and ready to ship. */
export interface AuditEvent {
  /** Position in the trail: gapless, ascending, never reused. A seal's record has that of its last event. */
  readonly seq: number;
  readonly eventId: string;
  /** An invalid date where the trail has a time that JavaScript doesn't know, which only SQL can put in. */
  readonly occurredAt: Date;
  /** The exact JSON text to ship, seq included. It is hashed as it stands, so a sink never rewrites it. */
  readonly message: string;
}

/** Thrown by `readTail` where what the destination holds can't be found out by waiting; the message says what to change. */
export class NotReadableError extends Error {
  override readonly name = 'NotReadableError';
}

/** Thrown by `send` where the destination asks to be left alone: nothing is sent to it until the process is started again. */
export class DestinationGoneError extends ExplainedError {
  override readonly name = 'DestinationGoneError';
}

/** Thrown by `send` where the destination says when it may be asked again. */
export class RetryLaterError extends Error {
  override readonly name = 'RetryLaterError';
  /** Milliseconds from now. */
  readonly retryInMs: number;

  constructor(message: string, retryInMs: number) {
    super(message);
    this.retryInMs = retryInMs;
  }
}

/** How many events a sink has delivered other than as they are, or not at all, by kind, since it was made. */
export type DegradedCounts = Readonly<Record<string, number>>;

/** Records, in the trail, that a destination refuses an event for good; `status` is its answer. Once it resolves, the sink goes on behind the event. */
export type Undeliverable = (event: AuditEvent, status: number) => Promise<void>;

/** A place outside the database that audit events are copied to. */
export interface Sink {
  /**
   * Delivers all of `events` in the order given, or throws. Delivery is at least once: sending the same events again after a
   * throw may repeat some of them. One send at a time; a second one meanwhile would mix the order.
   *
   * @param signal gives up promptly when aborted: the promise rejects with the signal's reason
   * @param confirmed is called with how many of the events, from the first one on, have arrived for good; so after a throw
   *   only those behind them need to be sent again
   * @param undeliverable is awaited for each event that the sink passes over
   */
  send(
    events: readonly AuditEvent[],
    signal: AbortSignal,
    confirmed?: (count: number) => void,
    undeliverable?: Undeliverable,
  ): Promise<void>;
  /** Absent where every event is delivered as it is, or the delivery fails. */
  readonly degraded?: () => DegradedCounts;
  /**
   * The end of what the destination holds of a trail: nothing when it holds none. Absent where a destination can't be asked.
   *
   * @param trail the trail's id; records of other trails in the same place are passed over
   * @throws NotReadableError; the signal's reason; the destination's error, after which it may be asked again
   */
  readonly readTail?: (trail: string, signal: AbortSignal) => Promise<Tail>;
  /** Releases what the sink holds; a send still under way is given up. */
  close(): Promise<void>;
}
