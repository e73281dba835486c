import { createClient } from 'graphql-ws';
import type { FormattedExecutionResult } from 'postgraphile/graphql';
import { WebSocket } from 'ws';
import { serve } from './serve.ts';

/** Clients that follow what happens by GraphQL, each by a WebSocket and as a user of its own. */
export interface SubscriberOptions {
  /** Of the API. */
  readonly url: string;
  /** One for each client. Every other client follows the trail, the rest schedules. */
  readonly tokens: readonly string[];
}

/** Waits until each client has heard of all these schedules. */
export interface SubscriberTask {
  readonly ids: readonly string[];
}

export interface Heard {
  /** Clients that have heard of anything so far: the protocol doesn't say when a subscription has begun. */
  readonly clients: number;
  /** When, by this machine's clock in milliseconds; for each of the schedules, once for each client. */
  readonly at: Readonly<Record<string, readonly number[]>>;
}

const DOCUMENTS = {
  events:
    'subscription { auditEventsAdded { events { id eventType occurredAt scheduleId adminUserId metadata } } }',
  schedules:
    'subscription { flagSchedulesChanged { schedules { id status scheduledAt createdBy } } }',
};

interface Data {
  readonly auditEventsAdded?: { readonly events: readonly { readonly scheduleId: string }[] };
  readonly flagSchedulesChanged?: { readonly schedules: readonly { readonly id: string }[] };
}

function idsIn({ auditEventsAdded, flagSchedulesChanged }: Data): string[] {
  return [
    ...(auditEventsAdded?.events ?? []).map(({ scheduleId }) => scheduleId),
    ...(flagSchedulesChanged?.schedules ?? []).map(({ id }) => id),
  ];
}

/** The clock of all processes on this machine, finer than Date.now(). */
const now = () => performance.timeOrigin + performance.now();

serve(async ({ url, tokens }: SubscriberOptions) => {
  const heard = new Map<string, number[]>();
  const clients = new Set<number>();
  let more = Promise.withResolvers<undefined>();

  function hear(client: number, { data, errors }: FormattedExecutionResult<Data>): void {
    if (errors !== undefined) fail(errors);
    const at = now();
    for (const id of idsIn(data ?? {})) heard.set(id, [...(heard.get(id) ?? []), at]);
    clients.add(client);
    more.resolve(undefined);
  }

  await Promise.all(tokens.map((token, i) => follow(url, token, i, (result) => hear(i, result))));
  return async ({ ids }: SubscriberTask): Promise<Heard> => {
    while (ids.some((id) => (heard.get(id)?.length ?? 0) < tokens.length)) {
      await more.promise;
      more = Promise.withResolvers();
    }
    return {
      clients: clients.size,
      at: Object.fromEntries(ids.map((id) => [id, heard.get(id) ?? []])),
    };
  };
});

/** Subscribes, and resolves once the connection is acknowledged. */
async function follow(
  url: string,
  token: string,
  i: number,
  next: (result: FormattedExecutionResult<Data>) => void,
): Promise<void> {
  const client = createClient({
    url: `${url.replace('http', 'ws')}/graphql`,
    webSocketImpl: WebSocket,
    connectionParams: { authorization: `Bearer ${token}` },
    lazy: false,
    retryAttempts: 0,
    onNonLazyError: fail,
  });
  const connected = new Promise((resolve) => client.on('connected', resolve));
  const query = i % 2 === 0 ? DOCUMENTS.events : DOCUMENTS.schedules;
  client.subscribe<Data>(
    { query },
    { next, error: fail, complete: () => fail('A subscription ended.') },
  );
  await connected;
}

/** Ends this process, and with it the benchmark. */
function fail(reason: unknown): void {
  setImmediate(() => {
    throw new Error('A subscription failed.', { cause: reason });
  });
}
