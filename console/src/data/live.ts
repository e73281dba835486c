import { signal } from '@preact/signals';
import { createClient, type Client } from 'graphql-ws/client';
import type { TadaDocumentNode } from 'gql.tada';
import { changed } from './changes.ts';
import { compareClocks, databaseNow, now } from './clock.ts';
import { graphql, sourceOf } from './documents.ts';
import { readsTrail } from './person.ts';
import { sessionEnded } from './session.ts';

/** Whether what is shown follows the server: `lost` says since when it does not. */
export type Liveness =
  | { readonly kind: 'connecting' }
  | { readonly kind: 'live' }
  | { readonly kind: 'lost'; readonly since: number };

export const liveness = signal<Liveness>({ kind: 'connecting' });

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

const ENVIRONMENTS = graphql(`
  subscription Environments {
    environmentsChanged {
      truncated
      environments {
        name
      }
    }
  }
`);

const PLANS = graphql(`
  subscription Plans {
    plansChanged {
      truncated
      plans {
        id
      }
    }
  }
`);

/** The socket's close codes for a token that ended or isn't taken. */
const UNAUTHORIZED = [4401, 4403];
/** A server that restarts is back within seconds. */
const RETRY_MS = [250, 500, 1_000] as const;
const LONGEST_RETRY_MS = 2_000;
/**
 * By then the server follows for a subscription, or has ended it. What was asked beside the first message may have been answered before
 * that: so it is asked once more.
 */
const SETTLED_MS = 1_000;
const PING_MS = 10_000;
const PONG_MS = 5_000;

let client: Client | null = null;
let isConnected = false;
/** Subscriptions that the server has ended, though the connection may be open. */
const broken = new Set<object>();
/** When the server last said something: by the browser's clock, which goes on while the machine sleeps. */
let heard = 0;

/** Connects, and follows until the page is left: each change asks again for what is shown. */
export function startLive(): void {
  if (client !== null) return;
  const made: Client = createClient({
    url: `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/graphql`,
    lazy: false,
    keepAlive: PING_MS,
    retryAttempts: Infinity,
    retryWait: pause,
    shouldRetry: () => client === made,
    on: {
      message: () => (heard = Date.now()),
      connected: () => {
        const hasBeenLost = liveness.value.kind === 'lost';
        isConnected = true;
        show();
        void compareClocks().catch(() => undefined);
        if (hasBeenLost) changed();
        void wait(SETTLED_MS).then(() => {
          if (client === made) changed();
        });
      },
      closed: (event) => {
        clearTimeout(deadline);
        if (client !== made) return;
        isConnected = false;
        show();
        if (UNAUTHORIZED.includes((event as CloseEvent).code)) sessionEnded();
      },
      // A connection that answers no ping is gone, though neither side closed it.
      ping: (received) => {
        if (!received) deadline = setTimeout(() => made.terminate(), PONG_MS);
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
  follow(ENVIRONMENTS, {}, changed);
  // Viewers have no plans: the server would refuse them.
  if (readsTrail.value) follow(PLANS, {}, changed);
}

/** Ends the connection, once the person is signed out. */
export function stopLive(): void {
  const ended = client;
  client = null;
  void ended?.dispose();
  isConnected = false;
  broken.clear();
  liveness.value = { kind: 'connecting' };
}

/** Live is what is connected and followed. */
function show(): void {
  if (isConnected && broken.size === 0) liveness.value = { kind: 'live' };
  else if (liveness.value.kind !== 'lost') liveness.value = { kind: 'lost', since: databaseNow() };
}

/** The time goes on: it stands still while the tab is hidden, or the machine asleep. */
now.subscribe(() => {
  // The browser says nothing of a connection that ended while the machine slept.
  if (heard > 0 && Date.now() - heard > PING_MS + PONG_MS + 5_000) {
    heard = 0;
    client?.terminate();
  }
});

const wait = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Waits before another try; in a hidden tab until one looks at it. */
async function pause(tries: number): Promise<void> {
  // A quarter more or less, so that not all pages come at once.
  await wait((RETRY_MS[tries] ?? LONGEST_RETRY_MS) * (0.75 + Math.random() / 2));
  if (document.hidden)
    await new Promise((resolve) =>
      document.addEventListener('visibilitychange', resolve, { once: true }),
    );
}

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
  let settled: ReturnType<typeof setTimeout> | undefined;
  const self = {};
  const isFollowed = (): void => {
    tries = 0;
    if (broken.delete(self)) show();
  };
  const begin = (): void => {
    if (done || client === null) return;
    settled = setTimeout(isFollowed, SETTLED_MS);
    const again = (): void => {
      clearTimeout(settled);
      if (done || client === null) return;
      broken.add(self);
      show();
      tries += 1;
      void pause(tries).then(() => {
        begin();
        onEnded();
      });
    };
    stop = client.subscribe(
      { query: sourceOf(document), variables: variables as Record<string, unknown> },
      {
        next: ({ data, errors }) => {
          if (errors !== undefined || data === null || data === undefined) return;
          isFollowed();
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
    clearTimeout(settled);
    if (broken.delete(self)) show();
    stop();
  };
}
