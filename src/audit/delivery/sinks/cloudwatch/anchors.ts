import { FilterLogEventsCommand, type CloudWatchLogsClient } from '@aws-sdk/client-cloudwatch-logs';
import { callWithin } from './client.ts';

/** The service may answer with empty pages while it looks on; this many in a row are not progress. */
const MAX_EMPTY_PAGES = 1_000;

/**
 * The messages of all audit.sealed records in all streams of a log group.
 *
 * @param signal gives up promptly when aborted, with its reason
 * @throws the SDK's error; Error when the service only goes on answering with empty pages
 */
export async function* cloudWatchAnchors(
  client: CloudWatchLogsClient,
  logGroup: string,
  signal: AbortSignal,
): AsyncGenerator<string> {
  let nextToken: string | undefined;
  let empty = 0;
  do {
    const command = new FilterLogEventsCommand({
      logGroupName: logGroup,
      filterPattern: '{ $.eventType = "audit.sealed" }',
      ...(nextToken === undefined ? {} : { nextToken }),
    });
    const page = await callWithin((options) => client.send(command, options), signal);
    const events = page.events ?? [];
    for (const { message } of events) if (message !== undefined) yield message;
    empty = events.length === 0 ? empty + 1 : 0;
    if (empty > MAX_EMPTY_PAGES)
      throw new Error(`CloudWatch Logs gave ${empty} empty pages in a row for ${logGroup}.`);
    nextToken = page.nextToken;
  } while (nextToken !== undefined);
}
