import { once } from 'node:events';
import { get } from 'node:http';
import type { IncomingMessage } from 'node:http';

import type pg from 'pg';

/** An event as a test puts it into the trail: what is left out doesn't matter to it. */
export interface ExportedEvent {
  readonly at?: string;
  readonly type?: string;
  readonly flag?: string | null;
  readonly environment?: string | null;
  readonly actorKind?: 'admin' | 'system' | 'database';
  readonly userId?: string | null;
  readonly email?: string | null;
  readonly databaseUser?: string;
  readonly metadata?: object;
}

/** Puts events into the trail, rendered as any, and numbers them; the connection is the owner's. */
export async function addEvents(
  client: pg.ClientBase,
  events: readonly ExportedEvent[],
): Promise<void> {
  for (const event of events)
    await client.query(
      `with made as (
         select jsonb_populate_record(
           app_private.make_event(gen_random_uuid(), $1::timestamptz, $2, null, $3, $4, null, null, $5),
           $6) as event
       )
       select app_private.write_events(array_agg(event)) from made`,
      [
        event.at ?? new Date().toISOString(),
        event.type ?? 'feature_flag.created',
        event.flag === undefined ? 'exported' : event.flag,
        event.environment === undefined ? 'production' : event.environment,
        JSON.stringify(event.metadata ?? {}),
        JSON.stringify({
          actor_kind: event.actorKind ?? 'admin',
          admin_user_id: event.userId ?? null,
          admin_email: event.email ?? null,
          ...(event.databaseUser === undefined ? {} : { database_user: event.databaseUser }),
        }),
      ],
    );
  await number(client);
}

/** Many events of one statement, and so of one time, numbered. */
export async function addMany(
  client: pg.ClientBase,
  count: number,
  metadata: object = { n: 1 },
): Promise<void> {
  await client.query(
    `with one as (
       select e.*, app_private.render_event(e) as text
       from app_private.make_event(
         gen_random_uuid(), now(), 'feature_flag.created', null, 'many', 'production', null, null, $2) as m
       cross join lateral jsonb_populate_record(m, '{"level": "info"}') as e
     ), added as (
       insert into audit.events (
         id, occurred_at, event_type, level, flag_key, environment, actor_kind, database_user, application_name, metadata,
         payload)
       select
         n.id, occurred_at, event_type, level, flag_key, environment, actor_kind, database_user, application_name, metadata,
         replace(text, one.id::text, n.id::text)
       from one, (select gen_random_uuid() as id from generate_series(1, $1)) as n
       returning id, occurred_at
     )
     insert into audit.queue (event_id, occurred_at) select id, occurred_at from added`,
    [count, JSON.stringify(metadata)],
  );
  await number(client);
}

/** Gives every queued event its number. */
export async function number(client: pg.ClientBase): Promise<void> {
  for (;;) {
    const { rows } = await client.query<{ sealed: number }>(
      'select count(queue_id)::int as sealed from app_private.seal_batch(1000, 0)',
    );
    if (rows[0]?.sealed === 0) return;
  }
}

/** An answer that is read as it comes. */
export interface Stream {
  readonly response: IncomingMessage;
  /** The text so far. */
  readonly text: () => string;
  /** Resolves at the end: true when the answer is whole, false when it was broken off. */
  readonly ended: Promise<boolean>;
  readonly destroy: () => void;
}

/** Asks for a stream; what comes is read unless `paused`. */
export async function openStream(
  url: string,
  token: string,
  options: { accept?: string; paused?: boolean } = {},
): Promise<Stream> {
  const request = get(url, {
    agent: false,
    headers: { authorization: `Bearer ${token}`, accept: options.accept ?? 'application/x-ndjson' },
  });
  // What ends it is seen by the response.
  request.on('error', () => undefined);
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  let text = '';
  response.setEncoding('utf8');
  if (options.paused !== true) response.on('data', (chunk: string) => (text += chunk));
  const ended = new Promise<boolean>((resolve) => {
    response.once('error', () => undefined);
    response.once('close', () => resolve(response.complete));
  });
  return { response, text: () => text, ended, destroy: () => request.destroy() };
}

/** The lines of NDJSON, parsed, without blank ones. */
export function linesOf(text: string): Record<string, unknown>[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}
