import type pg from 'pg';
import type { Message, Subscribe } from './subscribers.ts';

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

/** To the schedules that change. */
export const SCHEDULES = `subscription ($key: String, $environment: String) {
  flagSchedulesChanged(flagKey: $key, environment: $environment) {
    truncated
    schedules { id status createdBy cancelledBy updates { enabled } flag { flagKey } }
  }
}`;

/** Makes flags whose keys begin with `key`, in one statement. */
export const insertFlags = (client: pg.Client, key: string, many: number) =>
  client.query(
    `insert into app_public.feature_flags (flag_key)
     select $1 || '-' || gen_random_uuid() from generate_series(1, $2::int)`,
    [key, many],
  );

export const FLOOD = 20_000;

/** What any login may do: notifies a payload for each g from 1 to FLOOD. */
export const floodWith = (client: pg.Client, payload: string) =>
  client.query(
    `select count(pg_notify('halyard_audit', ${payload})) from generate_series(1, ${FLOOD}) as g`,
  );

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
