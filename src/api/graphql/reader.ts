import type pg from 'pg';

import { queryWith } from '../../db.ts';
import type { Settings } from '../../db.ts';
import type { Statement } from '../../flight.ts';
import type { Hint } from './changes.ts';

/**
 * Runs what GraphQL asks of the database, each statement in a transaction of its own.
 *
 * Hundreds of subscribers get the same hint at the same moment, and ask for the same rows: those with the same rights share
 * one answer. It is read after the hint came, so it has what the hint tells of; what changes later comes with a later one.
 */
export interface Reader {
  query(settings: Settings, statement: Statement): Promise<pg.QueryResult>;
  /**
   * Says which hint the statements with these settings are about from now on; null for none.
   *
   * @param settings the object itself stands for one subscription
   */
  follow(settings: Settings, hint: Hint | null): void;
}

export function makeReader(pool: pg.Pool): Reader {
  const hints = new WeakMap<Settings, Hint>();
  const answers = new WeakMap<Hint, Map<string, Promise<pg.QueryResult>>>();

  function share(hint: Hint, settings: Settings, statement: Statement): Promise<pg.QueryResult> {
    const known = answers.get(hint) ?? new Map<string, Promise<pg.QueryResult>>();
    answers.set(hint, known);
    const { name, text, values, rowMode } = statement;
    const key = JSON.stringify([...rightsOf(settings), name ?? text, values, rowMode]);
    const answer = known.get(key) ?? queryWith(pool, settings, statement);
    known.set(key, answer);
    return answer;
  }

  return {
    query(settings, statement) {
      const hint = hints.get(settings);
      return hint === undefined
        ? queryWith(pool, settings, statement)
        : share(hint, settings, statement);
    },
    follow(settings, hint) {
      if (hint === null) hints.delete(settings);
      else hints.set(settings, hint);
    },
  };
}

/** All that policies look at; a test holds them to it. Who it is, is for the stamps of changes, and nothing is changed here. */
function rightsOf(settings: Settings): string[] {
  return [settings.role, settings['jwt.claims.role'], settings['jwt.claims.environments']];
}
