import type { Logger } from '../../../../lib/log.ts';
import { parseJson } from '../../../../lib/json.ts';
import { makeDegradedCounts } from '../../degraded.ts';
import {
  DestinationGoneError,
  RetryLaterError,
  type AuditEvent,
  type Sink,
  type Undeliverable,
} from '../../sink.ts';
import { publicLookup } from './address.ts';
import { makePoster, type Answer } from './post.ts';
import { signatureHeaders } from './signature.ts';
import { slackText } from './slack.ts';

export interface WebhookOptions {
  readonly url: URL;
  /** What each message is signed with. */
  readonly keys: readonly Buffer[];
  /** The types that are sent; null for all events. */
  readonly types: readonly string[] | null;
  readonly format: 'standard' | 'slack';
  readonly allowPrivate: boolean;
  /** The cursor's name, which holds no secret. */
  readonly destination: string;
  readonly log: Logger;
  /** Milliseconds for one attempt, for tests. */
  readonly attemptMs?: number;
}

/** An event that is refused so often is passed over: each time the pause before the next try has grown. */
const MAX_REFUSALS = 5;
/** Answers that may be others the next time, though they blame the request. */
const PASSING = new Set([408, 425, 429]);
const GONE = 410;

/**
 * A sink that posts each event to a URL, one by one and in order, by Standard Webhooks: the body is the shipped text, byte for byte,
 * `webhook-id` is the event's id at each attempt. Any 2xx confirms. An event that the receiver refuses by a 4xx five times is passed over
 * and counted (`skipped`). Seals are sent only where `types` names them.
 */
export function makeWebhookSink(options: WebhookOptions): Sink {
  const { url, keys, types, format, allowPrivate, destination, log, attemptMs } = options;
  const closing = new AbortController();
  const poster = makePoster(url, allowPrivate ? undefined : publicLookup(), attemptMs);
  const degraded = makeDegradedCounts(log, ['skipped']);
  const wanted = types && new Set(types);
  let refused = { eventId: '', times: 0 };

  /** What is posted; null for what isn't sent. */
  function bodyOf({ message }: AuditEvent): string | null {
    const type = typeOf(message);
    // What stands for an event that was purged may stand for one that is wanted.
    const isWanted = wanted?.has(type) ?? type !== 'audit.sealed';
    if (!isWanted && type !== 'audit.missing') return null;
    if (format === 'standard') return message;
    const text = slackText(message);
    return text === null ? null : JSON.stringify({ text });
  }

  async function attempt({ eventId }: AuditEvent, body: string, signal: AbortSignal) {
    const seconds = Math.floor(Date.now() / 1_000);
    const headers = {
      'Content-Type': 'application/json',
      'Content-Length': String(Buffer.byteLength(body)),
      'User-Agent': 'Halyard',
      ...signatureHeaders(keys, eventId, seconds, body),
    };
    try {
      return await poster.post(headers, body, signal);
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      const reason = error instanceof Error ? error.message : String(error);
      throw new Error(`The webhook can't be reached: ${reason}`, { cause: error });
    }
  }

  async function deliver(
    event: AuditEvent,
    body: string,
    signal: AbortSignal,
    undeliverable: Undeliverable | undefined,
  ): Promise<void> {
    const answer = await attempt(event, body, signal);
    const { status } = answer;
    if (status >= 200 && status < 300) return;
    if (status === GONE) throw gone();
    if (status < 400 || status >= 500 || PASSING.has(status)) throw notNow(event, answer);
    const { eventId } = event;
    refused = { eventId, times: refused.eventId === eventId ? refused.times + 1 : 1 };
    if (refused.times < MAX_REFUSALS) throw notNow(event, answer);
    await undeliverable?.(event, status);
    degraded.note('skipped', [event], { destination, eventId, status });
  }

  return {
    async send(events, caller, confirmed, undeliverable) {
      const signal = AbortSignal.any([caller, closing.signal]);
      for (const [i, event] of events.entries()) {
        signal.throwIfAborted();
        const body = bodyOf(event);
        if (body !== null) await deliver(event, body, signal, undeliverable);
        confirmed?.(i + 1);
      }
    },
    close() {
      closing.abort(new Error('The webhook sink is closed'));
      poster.close();
      return Promise.resolve();
    },
    degraded: degraded.counts,
  };
}

function typeOf(message: string): string {
  const event = (parseJson(message) ?? {}) as { eventType?: unknown };
  return typeof event.eventType === 'string' ? event.eventType : '';
}

function gone(): DestinationGoneError {
  return new DestinationGoneError(
    'The webhook answered 410: it is gone. Events are kept for it. Mend it and start the worker again, or take webhook out of AUDIT_SINK and forget the destination: select audit.forget_destination(…).',
  );
}

function notNow({ seq }: AuditEvent, { status, retryInMs }: Answer): Error {
  const advice =
    status >= 300 && status < 400
      ? "; redirects aren't followed: set WEBHOOK_URL to the address that it leads to"
      : status === 401 || status === 403
        ? '; check WEBHOOK_SECRET and the credentials in WEBHOOK_URL'
        : '';
  const sentence = `The webhook answered ${status} to event ${seq}${advice}`;
  return retryInMs === null ? new Error(sentence) : new RetryLaterError(sentence, retryInMs);
}
