import { useEffect } from 'preact/hooks';
import { shortState } from '../parts/flag_state.tsx';
import { Note } from '../parts/note.tsx';
import { ClockTime } from '../parts/time.tsx';
import { ConflictText } from '../plans/conflict_text.tsx';
import { useDryRun } from '../plans/dry_run.ts';
import { FieldsDiff } from '../plans/fields_diff.tsx';
import { isStopped } from '../stop/stops.ts';
import { decisionOf, tryRequest, type Decisions, type DueItem } from './model.ts';

/** How long until the server tries it again where another change was in the way. */
const BUSY_MS = 1_000;

interface Props {
  readonly environment: string;
  readonly items: readonly DueItem[];
  readonly decisions: Decisions;
}

/** The flags after the resume, by a dry run: the server does it, and takes it back. */
export function Preview({ environment, items, decisions }: Props) {
  // What goes on already can't be resumed.
  const { tried, retry } = useDryRun(
    isStopped(environment) ? tryRequest(environment, items, decisions) : null,
  );
  const isBusy = tried?.error?.code === 'busy';
  useEffect(() => {
    if (!isBusy) return undefined;
    const timer = setTimeout(retry, BUSY_MS);
    return () => clearTimeout(timer);
  }, [tried]);
  if (tried === null || isBusy) return <p class="muted">Trying it…</p>;
  const { run, error, at } = tried;
  if (run === null)
    return (
      <Note tone="conflict">
        It can’t be tried now. {error?.message} <span class="small muted">{error?.code}</span>{' '}
        <button type="button" class="btn" onClick={retry}>
          Try again
        </button>
      </Note>
    );
  return (
    <div class="stack tight">
      <div class="diff" role="group" aria-label="Before and after">
        {run.changes.map(({ environment: of, flagKey, before, after }) => (
          <Line key={`${of} ${flagKey}`} name={of === environment ? flagKey : `${flagKey}, ${of}`}>
            <FieldsDiff {...{ before, after }} />
          </Line>
        ))}
        {unchanged(environment, items, decisions, run.changes).map(({ flagKey, text }) => (
          <Line key={flagKey} name={flagKey}>
            {text}
          </Line>
        ))}
      </div>
      {run.conflicts.map((conflict) => (
        <Note key={`${conflict.flagKey} ${conflict.field}`} tone="conflict">
          {conflict.flagKey}: <ConflictText conflict={conflict} />
        </Note>
      ))}
      <span class="small muted">
        All other flags stay as they are. Tried at <ClockTime at={at} /> without changing anything.
      </span>
    </div>
  );
}

const Line = ({
  name,
  children,
}: {
  readonly name: string;
  readonly children: preact.ComponentChildren;
}) => (
  <>
    <span class="k">{name}</span>
    <span>{children}</span>
  </>
);

/** Flags that something came due of, and that stay as they are: `10% (skipped)`. */
function unchanged(
  environment: string,
  items: readonly DueItem[],
  decisions: Decisions,
  changes: readonly { readonly flagKey: string; readonly environment: string }[],
) {
  const found = new Map<string, string>();
  for (const item of items)
    for (const { flag } of item.schedules) {
      const isChanged = changes.some(
        (one) => one.flagKey === flag?.flagKey && one.environment === environment,
      );
      if (flag === null || isChanged) continue;
      const why = decisionOf(item, decisions) === 'skip' ? 'skipped' : 'nothing changes';
      found.set(flag.flagKey, `${shortState(flag)} (${why})`);
    }
  return [...found].map(([flagKey, text]) => ({ flagKey, text }));
}
