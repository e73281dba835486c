import type { Message } from './subscribers.ts';
import type { Subscribe } from './subscribers.ts';

/** To the events that are added. */
export const EVENTS = `subscription ($key: String, $environment: String) {
  auditEventsAdded(flagKey: $key, environment: $environment) {
    truncated
    events { eventType flagKey environment adminUserId metadata }
  }
}`;

/** To the flags that are created or changed. */
export const FLAGS = `subscription ($key: String, $environment: String) {
  flagsChanged(flagKey: $key, environment: $environment) {
    truncated
    flags { flagKey environment enabled }
  }
}`;

/** The code of a subscription that isn't granted. */
export async function refusalOf(
  subscribe: Subscribe,
  token: string,
  query: string,
  variables = {},
): Promise<string | undefined> {
  const { messages, ended } = await subscribe(token, query, variables);
  const end = await ended;
  const errors = Array.isArray(end) ? (end as Message['errors']) : messages[0]?.errors;
  return errors?.[0]?.extensions?.code;
}
