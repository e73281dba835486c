import { useEffect, useState } from 'preact/hooks';
import { now } from '../data/clock.ts';
import { type ApiError, errorOf, run } from '../data/request.ts';
import { InlineDiff } from '../parts/flag_state.tsx';
import { Note } from '../parts/note.tsx';
import { zone } from '../settings.ts';
import { timeText } from '../time/format.ts';
import { TRY, type DryRun } from './documents.ts';
import type { Missed } from './model.ts';

/** How long nothing is chosen before the server tries it. */
const PAUSE_MS = 200;

interface Tried {
  /** What was tried. */
  readonly key: string;
  /** Milliseconds since 1970. */
  readonly at: number;
  readonly run: DryRun | null;
  readonly error: ApiError | null;
}

interface Wanted {
  readonly environment: string;
  readonly missed: Missed;
  readonly except: readonly string[];
  /** Of all that came due: with another one the answer is another. */
  readonly ids: readonly string[];
}

/** Tries the resume, each time that something else is chosen: the server does it, and takes it back. */
export function useDryRun({ environment, missed, except, ids }: Wanted) {
  const [tried, setTried] = useState<Tried | null>(null);
  const [tries, setTries] = useState(0);
  const key = JSON.stringify([environment, missed, except, ids, tries]);
  useEffect(() => {
    const leaving = new AbortController();
    const timer = setTimeout(() => {
      const done = (found: Partial<Tried>): void => {
        if (!leaving.signal.aborted)
          setTried({ key, at: now.value, run: null, error: null, ...found });
      };
      run(TRY, { environment, missed, except: [...except] }, leaving.signal).then(
        ({ dryRunResume }) => done({ run: dryRunResume?.dryRun ?? null }),
        (failure: unknown) => done({ error: errorOf(failure) }),
      );
    }, PAUSE_MS);
    return () => {
      clearTimeout(timer);
      leaving.abort();
    };
  }, [key]);
  return { tried, isCurrent: tried?.key === key, again: () => setTries(tries + 1) };
}

interface Props {
  readonly environment: string;
  readonly tried: Tried | null;
  readonly isCurrent: boolean;
  readonly again: () => void;
}

/** The flags after the resume. */
export function Preview({ environment, tried, isCurrent, again }: Props) {
  if (tried === null) return <p class="muted">Trying it…</p>;
  if (tried.error !== null)
    return (
      <Note tone="conflict">
        It can’t be tried now. {tried.error.message}{' '}
        <span class="small muted">{tried.error.code}</span>{' '}
        <button type="button" class="btn" onClick={again}>
          Try again
        </button>
      </Note>
    );
  const changes = tried.run?.changes ?? [];
  return (
    <div class="stack tight" aria-busy={!isCurrent}>
      {changes.length > 0 && (
        <div class="diff" role="group" aria-label="Before and after">
          {changes.map((change) => (
            <DiffLine
              key={`${change.environment} ${change.flagKey}`}
              {...{ change, environment }}
            />
          ))}
        </div>
      )}
      {(tried.run?.conflicts ?? []).map(({ flagKey, field, expected, found }) => (
        <Note key={`${flagKey} ${field}`} tone="conflict">
          {flagKey} expects {field} {String(expected)}, and finds {String(found)}: it waits for
          someone.
        </Note>
      ))}
      <span class="small muted">
        {changes.length === 0 ? 'All flags stay as they are.' : 'All other flags stay as they are.'}{' '}
        {isCurrent
          ? `Tried at ${timeText(tried.at, zone.value, 'second')} without changing anything.`
          : 'Trying it again…'}
      </span>
    </div>
  );
}

interface LineProps {
  readonly change: DryRun['changes'][number];
  readonly environment: string;
}

function DiffLine({ change: { flagKey, environment: of, before, after }, environment }: LineProps) {
  const state = ({ enabled, rolloutPercentage }: typeof before) => ({
    ...{ enabled: enabled ?? false, rolloutPercentage: rolloutPercentage ?? 0 },
  });
  return (
    <>
      <span class="k">
        {flagKey}
        {of !== environment && `, ${of}`}
      </span>
      <span>
        <InlineDiff before={state(before)} after={state(after)} />
      </span>
    </>
  );
}
