import { useEffect, useRef, useState } from 'preact/hooks';
import { changes as changesOfServer } from '../data/changes.ts';
import { databaseNow } from '../data/clock.ts';
import { type ApiError, errorOf } from '../data/request.ts';
import { askRest, type RestRequest } from '../data/rest.ts';
import { fieldsOf, type Conflict, type Fields } from './model.ts';

/** One flag before and after. */
export interface FlagDiff {
  readonly flagKey: string;
  readonly environment: string;
  readonly before: Fields;
  readonly after: Fields;
}

/** What would happen. */
export interface DryRun {
  readonly changes: readonly FlagDiff[];
  /** How many events would be written. */
  readonly events: number;
  readonly conflicts: readonly Conflict[];
}

const listOf = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : []);
const text = (value: unknown): string => (typeof value === 'string' ? value : '');
const textOrNull = (value: unknown): string | null => (typeof value === 'string' ? value : null);

/** Conflicts as REST writes them. */
export const readConflicts = (value: unknown): readonly Conflict[] =>
  listOf(value).map((one) => {
    const { flag_key, environment, field, kind, expected, found, at, schedule_id, plan_id } =
      fieldsOf(one) ?? {};
    return {
      ...{ flagKey: text(flag_key), environment: text(environment), field: text(field) },
      ...{ kind: typeof kind === 'string' ? kind : 'expectation', expected, found, at: text(at) },
      ...{ scheduleId: textOrNull(schedule_id), planId: textOrNull(plan_id) },
    };
  });

/** The answer of a dry run. */
export function readDryRun(value: unknown): DryRun {
  const { changes, events, conflicts } = fieldsOf(value) ?? {};
  return {
    changes: listOf(changes).map((one) => {
      const { flag_key, environment, before, after } = fieldsOf(one) ?? {};
      return {
        ...{ flagKey: text(flag_key), environment: text(environment) },
        ...{ before: fieldsOf(before) ?? {}, after: fieldsOf(after) ?? {} },
      };
    }),
    events: listOf(events).length,
    conflicts: readConflicts(conflicts),
  };
}

/** What was changed, by events of the trail. */
export const diffsOfEvents = (
  events: readonly {
    readonly flagKey: string | null;
    readonly environment: string | null;
    readonly metadata: unknown;
  }[],
): readonly FlagDiff[] =>
  events.map(({ flagKey, environment, metadata }) => {
    const { before, after } = fieldsOf(metadata) ?? {};
    return {
      ...{ flagKey: flagKey ?? '', environment: environment ?? '' },
      ...{ before: fieldsOf(before) ?? {}, after: fieldsOf(after) ?? {} },
    };
  });

/** A try, with its time by the database's clock. */
export interface Tried {
  readonly run: DryRun | null;
  readonly error: ApiError | null;
  readonly at: number;
}

/** How long one types before it is tried. */
const PAUSE_MS = 250;
/** A try locks its flags for some milliseconds: other people's changes lead to one within this time at most. */
const INTERVAL_MS = 2_000;
const BUSY = 'busy';

/**
 * Tries a request by its dry run: at once, when it says something else, and when something has changed on the server. The last answer
 * stays until the next is there.
 *
 * @param request null: there is nothing to try
 * @param isHeld while the request itself is sent: its flags are locked then
 */
export function useDryRun(request: RestRequest | null, isHeld = false) {
  const [tried, setTried] = useState<Tried | null>(null);
  const [again, setAgain] = useState(0);
  const state = useRef({ key: '', at: -Infinity, sent: 0, shown: 0 }).current;
  const key = request === null ? '' : JSON.stringify(request);
  useEffect(() => {
    if (request === null) {
      // What is under way says nothing any more.
      state.shown = state.sent;
      setTried(null);
      return undefined;
    }
    if (isHeld) return undefined;
    const sinceLast = performance.now() - state.at;
    const wait = state.key === key ? Math.max(0, INTERVAL_MS - sinceLast) : 0;
    const timer = setTimeout(
      () => {
        Object.assign(state, { key, at: performance.now(), sent: state.sent + 1 });
        const question = state.sent;
        const show = (run: DryRun | null, error: ApiError | null): void => {
          if (question <= state.shown) return;
          state.shown = question;
          setTried({ run, error, at: databaseNow() });
        };
        askRest(request).then(
          (answer) => show(readDryRun(answer), null),
          (failure: unknown) => {
            const error = errorOf(failure);
            // Somebody changes one of its flags at this moment.
            if (error.code === BUSY) setTimeout(() => setAgain((count) => count + 1), INTERVAL_MS);
            else show(null, error);
          },
        );
      },
      state.key === '' ? 0 : Math.max(PAUSE_MS, wait),
    );
    return () => clearTimeout(timer);
  }, [key, changesOfServer.value, again, isHeld]);
  return {
    tried,
    retry: () => {
      state.at = -Infinity;
      setAgain((count) => count + 1);
    },
  };
}
