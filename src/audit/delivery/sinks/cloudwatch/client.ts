import { Readable } from 'node:stream';
import { CloudWatchLogsClient } from '@aws-sdk/client-cloudwatch-logs';
import { withDeadline } from '../../../../lib/wait.ts';

/** The SDK's retries for one call: exponential with jitter, on throttling, 5xx, resets and timeouts. */
const MAX_ATTEMPTS = 5;

/** For one call, all attempts included: the SDK doesn't bound a credential process or an SSO refresh, which may hang. */
const CALL_DEADLINE_MS = 150_000;

/**
 * A CloudWatch Logs client from the SDK's own chain: credentials, region and endpoint as its standard AWS_* variables,
 * profiles and instance roles say.
 *
 * @param timeouts.requestTimeoutMs milliseconds for one attempt to start answering, and again to finish
 */
export function makeCloudWatchClient({
  connectionTimeoutMs = 2_000,
  requestTimeoutMs = 10_000,
} = {}): CloudWatchLogsClient {
  const client = new CloudWatchLogsClient({
    maxAttempts: MAX_ATTEMPTS,
    requestHandler: {
      connectionTimeout: connectionTimeoutMs,
      requestTimeout: requestTimeoutMs,
      // Without it the SDK only warns about a request that takes too long, and waits on.
      throwOnRequestTimeout: true,
    },
  });
  // The SDK stops its request timer when the headers arrive; a body that drips would never end.
  client.middlewareStack.add(
    (next) => async (args) => {
      const result = await next(args);
      boundBody(result.response, requestTimeoutMs);
      return result;
    },
    { step: 'deserialize', priority: 'low', name: 'halyardBodyDeadline' },
  );
  return client;
}

/** Destroys a response's body when it isn't read to its end in time; the SDK takes the error for a timeout and retries. */
function boundBody(response: unknown, ms: number): void {
  if (typeof response !== 'object' || response === null || !('body' in response)) return;
  const { body } = response;
  if (!(body instanceof Readable)) return;
  const timer = setTimeout(() => {
    const error = new Error(`CloudWatch Logs did not finish its answer within ${ms} ms`);
    error.name = 'TimeoutError'; // the name by which the SDK knows what to retry
    body.destroy(error);
  }, ms);
  body.once('close', () => clearTimeout(timer));
}

/**
 * Runs one SDK call within the deadline, and rejects with the signal's reason as soon as that aborts; the SDK doesn't look at it
 * while credentials are being resolved. @throws the call's own error otherwise
 */
export function callWithin<T>(
  call: (options: { abortSignal: AbortSignal }) => Promise<T>,
  signal: AbortSignal,
): Promise<T> {
  const expired = `CloudWatch Logs took longer than ${CALL_DEADLINE_MS} ms, retries included`;
  return withDeadline((abortSignal) => call({ abortSignal }), CALL_DEADLINE_MS, expired, signal);
}
