import type { ExecutionResult } from 'postgraphile/graphql';

import type { Settings } from '../../postgres/request_settings.ts';
import type { Logger } from '../../lib/log.ts';
import { makeSharing, type Changes, type Hint, type Mailbox } from './changes.ts';
import type { Reader } from './reader.ts';
import { failure, format, type Result } from '../errors.ts';
import type { Give, Topic } from '../schema/subscriptions.ts';

/** A subscription that was checked and may begin. */
export interface Followed {
  /** The same for all who are sent the same: those with the same operation, variables and rights. */
  readonly key: string;
  readonly rights: Settings;
  /** Runs the operation once, on what is given for its topic. Null when that is null; a result of errors alone ends it all. */
  readonly run: (rights: Settings, give: Give) => Promise<ExecutionResult | null>;
  /** Knows the request's id. */
  readonly log: Logger;
}

/** Results, each as JSON text. One of errors alone is the last. */
export interface Results extends AsyncIterableIterator<string, void, void> {
  return(): Promise<IteratorResult<string, void>>;
}

/** What all who follow the same are sent. */
interface Message {
  readonly text: string;
  /** It ends the subscription. */
  readonly last: boolean;
}

/** Of those ids, the ones that the caller's role, environments and arguments let through. */
const SELECT_VISIBLE: Record<Topic['kind'], string> = {
  events: `
    select e.id
    from audit.events e
    where e.id = any ($1::uuid[])
      and ($2::text is null or e.flag_key = $2)
      and ($3::text is null or e.environment = $3)`,
  schedules: `
    select s.id
    from app_public.feature_flags f
    join app_public.feature_flag_schedules s on f.id = s.flag_id
    where s.id = any ($1::uuid[])
      and ($2::text is null or f.flag_key = $2)
      and ($3::text is null or f.environment = $3)`,
};

/**
 * Feeds subscribers: looks up each hint with a subscriber's rights, and drops one of which that subscriber sees nothing. Those
 * with the same key share what a hint comes to, down to the text: 200 executions took 40 to 60 ms of a core. An execution
 * begins and ends with its hint, so a group has no leader, and leaves nothing behind.
 */
export function makeFeed({ changes, reader }: { changes: Changes; reader: Reader }) {
  const share = makeSharing<Message | null>();

  async function look(settings: Settings, topic: Topic, ids: readonly string[]): Promise<string[]> {
    const { rows } = await reader.query(settings, {
      name: `visible_${topic.kind}`,
      text: SELECT_VISIBLE[topic.kind],
      values: [ids, topic.flagKey ?? null, topic.environment ?? null],
    });
    return (rows as { id: string }[]).map(({ id }) => id);
  }

  /** Finds out what is followed. Whoever may not read it hears so now, and not at the first change. */
  async function begin({ run, rights, log }: Followed): Promise<Topic | Result> {
    let followed: Topic | undefined;
    const refused = await run(rights, async (topic) => {
      followed = topic;
      await look(rights, topic, []);
      return null;
    });
    if (refused !== null) return format(refused, log);
    if (followed === undefined) throw new Error('A subscription followed nothing.');
    return followed;
  }

  async function execute(followed: Followed, topic: Topic, hint: Hint): Promise<Message | null> {
    const wanted = hint[topic.kind];
    const { truncated } = hint;
    // An object for this execution alone: by it the reader knows the hint.
    const rights = { ...followed.rights };
    reader.follow(rights, hint);
    const ids = wanted.length === 0 ? [] : await look(rights, topic, wanted);
    if (ids.length === 0 && !truncated) return null;
    const result = await followed.run(rights, () => Promise.resolve({ ids, truncated }));
    if (result === null) throw new Error('A subscription gave no result.');
    const text = JSON.stringify(format(result, followed.log));
    return { text, last: result.data === undefined };
  }

  async function next(followed: Followed, topic: Topic, mailbox: Mailbox): Promise<Message | null> {
    const failed = (error: unknown): Message => ({
      text: JSON.stringify(failure(error, followed.log)),
      last: true,
    });
    try {
      for (;;) {
        const hint = await mailbox.take();
        if (hint === null) return null;
        // Errors, too, are shared, and logged once.
        const message = await share(hint, followed.key, () =>
          execute(followed, topic, hint).catch(failed),
        );
        if (message !== null) return message;
      }
    } catch (error) {
      return failed(error);
    }
  }

  return {
    /**
     * @returns a result of errors when the operation may not be followed
     * @throws DatabaseUnavailableError while nothing is being listened to
     */
    async follow(followed: Followed): Promise<Result | Results> {
      // First, so that nothing is missed that is committed while it begins.
      const mailbox = changes.open();
      try {
        const topic = await begin(followed);
        if ('kind' in topic) return makeResults(mailbox, () => next(followed, topic, mailbox));
        mailbox.close();
        return topic;
      } catch (error) {
        mailbox.close();
        throw error;
      }
    },
  };
}

export type Feed = ReturnType<typeof makeFeed>;

/** The messages until the mailbox is closed, which return() does. Not an async generator: its return() would wait for a hint. */
function makeResults(mailbox: Mailbox, next: () => Promise<Message | null>): Results {
  let ended = false;
  const isOpen = () => !ended;
  const end = (): Promise<IteratorResult<string, void>> => {
    ended = true;
    mailbox.close();
    return Promise.resolve({ done: true, value: undefined });
  };
  return {
    [Symbol.asyncIterator]() {
      return this;
    },
    async next() {
      const message = isOpen() ? await next() : null;
      // Who has left meanwhile may have begun something else under the same id.
      if (message === null || !isOpen()) return end();
      if (message.last) await end();
      return { done: false, value: message.text };
    },
    return: end,
  };
}
