import { signal } from '@preact/signals';
import { createClient, type Client } from 'graphql-ws/client';
import type { TadaDocumentNode } from 'gql.tada';
import { compareClocks, databaseNow } from './clock.ts';
import { graphql, sourceOf } from './documents.ts';
import { refetchAll } from './resource.ts';
import { sessionEnded } from './session.ts';

/** Whether what is shown follows the server: `lost` says since when it does not. */
export type Liveness =
  | { readonly kind: 'connecting' }
  | { readonly kind: 'live' }
  | { readonly kind: 'lost'; readonly since: number };

export const liveness = signal<Liveness>({ kind: 'connecting' });

/** How many times something changed on the server; for what the page says aloud. */
export const changes = signal(0);

const SCHEDULES = graphql(`
  subscription Schedules {
    flagSchedulesChanged {
      truncated
      schedules {
        id
      }
    }
  }
`);
const FLAGS = graphql(`
  subscription Flags {
    flagsChanged {
      truncated
      flags {
        id
      }
    }
  }
`);

/** The socket's close codes for a token that ended or isn't taken. */
const UNAUTHORIZED = [4401, 4403];
/** The shortest time between two times that all is asked again. */
const REFETCH_MS = 300;
/** Changes of one moment are answered by one round of queries. */
const TOGETHER_MS = 30;
/** A request that left with the first subscriptions may have been answered before they began: so once more after this. */
const SETTLED_MS = 1_000;
/** A server that restarts is back within seconds; a quarter more or less, so that not all pages come at once. */
const RETRY_MS = [250, 500, 1_000] as const;
const LONGEST_RETRY_MS = 2_000;

const retryWait = (tries: number): Promise<void> =>
  wait((RETRY_MS[tries] ?? LONGEST_RETRY_MS) * (0.75 + Math.random() / 2));

let client: Client | null = null;

/** Connects, and follows until the page is left: each change asks again for what is shown. */
export function startLive(): void {
  if (client !== null) return;
  const made: Client = createClient({
    url: `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/graphql`,
    lazy: false,
    keepAlive: 10_000,
    retryAttempts: Infinity,
    retryWait,
    shouldRetry: () => client === made,
    on: {
      connected: () => {
        liveness.value = { kind: 'live' };
        void compareClocks().catch(() => undefined);
        changed();
        void wait(SETTLED_MS).then(changed);
      },
      closed: (event) => {
        lost();
        if (UNAUTHORIZED.includes((event as CloseEvent).code)) sessionEnded();
      },
      // A connection that answers no ping is gone, though nobody closed it.
      ping: (received) => {
        if (!received) deadline = setTimeout(() => made.terminate(), 5_000);
      },
      pong: (received) => {
        if (received) clearTimeout(deadline);
      },
    },
  });
  let deadline: ReturnType<typeof setTimeout> | undefined;
  client = made;
  follow(SCHEDULES, {}, changed);
  follow(FLAGS, {}, changed);
}

/** Ends it: nobody is signed in. */
export function stopLive(): void {
  const ended = client;
  client = null;
  void ended?.dispose();
  liveness.value = { kind: 'connecting' };
}

function lost(): void {
  if (liveness.value.kind !== 'lost') liveness.value = { kind: 'lost', since: databaseNow() };
}

const wait = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/**
 * Follows one subscription, and begins it again where the server ends it, as it does when it loses sight of the trail.
 *
 * @param onEnded once it is followed again: what came meanwhile is missing
 * @returns ends it
 */
export function follow<Result, Variables>(
  document: TadaDocumentNode<Result, Variables>,
  variables: Variables,
  onData: (data: Result) => void,
  onEnded: () => void = changed,
): () => void {
  let done = false;
  let stop: () => void = () => undefined;
  let tries = 0;
  const begin = (): void => {
    if (done || client === null) return;
    const again = (): void => {
      if (done) return;
      tries += 1;
      void retryWait(tries).then(() => {
        begin();
        onEnded();
      });
    };
    stop = client.subscribe(
      { query: sourceOf(document), variables: variables as Record<string, unknown> },
      {
        next: ({ data, errors }) => {
          if (errors !== undefined || data === null || data === undefined) return;
          tries = 0;
          onData(data as Result);
        },
        error: again,
        complete: again,
      },
    );
  };
  begin();
  return () => {
    done = true;
    stop();
  };
}

let due: ReturnType<typeof setTimeout> | null = null;
let running = false;
let missed = false;
let askedAt = -Infinity;

/** Something changed: asks again for what is shown, once for all changes of a moment. */
export function changed(): void {
  if (running) missed = true;
  if (running || due !== null) return;
  const waitMs = Math.max(TOGETHER_MS, askedAt + REFETCH_MS - performance.now());
  due = setTimeout(() => {
    due = null;
    running = true;
    missed = false;
    askedAt = performance.now();
    changes.value += 1;
    void refetchAll().finally(() => {
      running = false;
      // Set while it ran.
      if (missed) changed();
    });
  }, waitMs);
}
