import type pg from 'pg';
import { userKey, type Claims } from '../../auth/claims.ts';
import { ASKER, pgSettings, type Settings } from '../../postgres/request_settings.ts';
import { queryAs } from '../../postgres/transaction.ts';
import type { Statement } from '../../postgres/pipeline.ts';

/**
 * Runs GraphQL's statements on a pool, each in a transaction of its own. Subscribers with the same rights share the answers for
 * one look at a hint: read after it came, they have what it names, and what changes later comes with a later hint.
 */
export function makeReader(pool: pg.Pool) {
  const looks = new WeakMap<Settings, object>();
  const share = makePerNoticeCache<pg.QueryResult>();

  return {
    query(settings: Settings, statement: Statement): Promise<pg.QueryResult> {
      const look = looks.get(settings);
      const ask = () => queryAs(pool, settings, statement);
      if (look === undefined) return ask();
      const { name, text, values, rowMode } = statement;
      return share(look, JSON.stringify([settings, name ?? text, values, rowMode]), ask);
    },
    /**
     * Says for which look the statements with these settings are.
     *
     * @param settings of rights alone; the object itself stands for one execution
     */
    follow(settings: Settings, look: object): void {
      looks.set(settings, look);
    },
  };
}

export type Reader = ReturnType<typeof makeReader>;

/**
 * A subscriber's rights, all that policies read (a test holds them to it), without the user: who asked first can't matter. Only the
 * connection comes out of that user's share.
 */
export function authorizationScope(claims: Claims): Settings {
  const settings = pgSettings({ ...claims, userId: null, email: null }, { requestId: '' });
  return { ...settings, [ASKER]: { user: userKey(claims) } };
}

/** Makes a cache of one result for each object and key: concurrent callers share it, errors included. */
export function makePerNoticeCache<T>() {
  const made = new WeakMap<object, Map<string, Promise<T>>>();
  return (about: object, key: string, make: () => Promise<T>): Promise<T> => {
    const known = made.get(about) ?? new Map<string, Promise<T>>();
    made.set(about, known);
    const value = known.get(key) ?? make();
    known.set(key, value);
    return value;
  };
}
