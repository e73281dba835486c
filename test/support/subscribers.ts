import type { Client } from 'graphql-ws';
import { afterEach, expect, vi } from 'vitest';

import type { TestApi } from './graphql.ts';

interface SubscribedPlan {
  readonly id: string;
  readonly status: string;
  readonly suspendedFor: string | null;
}

export interface Message {
  readonly data?: {
    auditEventsAdded?: { truncated: boolean; events: { eventType: string; flagKey: string }[] };
    flagSchedulesChanged?: { truncated: boolean; schedules: { id: string; status: string }[] };
    flagsChanged?: { truncated: boolean; flags: { flagKey: string; enabled: boolean }[] };
    plansChanged?: { truncated: boolean; plans: SubscribedPlan[] };
    environmentsChanged?: { environments: { name: string; stoppedAt: string | null }[] };
  } | null;
  readonly errors?: readonly { readonly extensions?: { readonly code?: string } }[];
}

export interface Subscription {
  readonly messages: Message[];
  /** 'complete', or the errors with which it isn't granted. */
  readonly ended: Promise<unknown>;
  /** Ends it and leaves the connection open. */
  readonly leave: () => void;
}

interface Options {
  readonly operationName?: string;
  readonly to?: TestApi;
}

/** Subscribes, each time by a connection of its own, and resolves once changes reach it. */
export type Subscribe = (
  token: string,
  query: string,
  variables?: Record<string, unknown>,
  options?: Options,
) => Promise<Subscription>;

/** Subscribers for a whole test file: gone after each test, and nothing of them left. */
export function useSubscribers(api: () => TestApi): Subscribe {
  const clients: Client[] = [];
  afterEach(async () => {
    for (const client of clients.splice(0)) await client.dispose();
    await vi.waitFor(
      () => expect(api().graphql.load).toMatchObject({ sockets: 0, subscriptions: 0 }),
      5_000,
    );
  });

  return async (token, query, variables = {}, { to = api(), operationName } = {}) => {
    const client = to.socket(token);
    clients.push(client);
    const messages: Message[] = [];
    const before = to.graphql.load.subscriptions;
    let leave: () => void = () => undefined;
    const ended = new Promise<unknown>((resolve) => {
      leave = client.subscribe(
        { query, variables, operationName: operationName ?? null },
        {
          next: (message) => messages.push(message as Message),
          error: resolve,
          complete: () => resolve('complete'),
        },
      );
    });
    await Promise.race([
      ended,
      vi.waitFor(() => expect(to.graphql.load.subscriptions).toBe(before + 1), 5_000),
    ]);
    return { messages, ended, leave };
  };
}

/** Waits until so many messages have come. */
export const arrived = (messages: Message[], many: number) =>
  vi.waitFor(() => expect(messages).toHaveLength(many), 5_000);
