import { Note, Waiting } from '../parts/note.tsx';
import { ClockTime } from '../parts/time.tsx';
import type { Tried } from './dry_run.ts';
import { linesOfRun } from './lines.tsx';
import { countText } from './model.ts';
import { FlagName } from './flag_name.tsx';

interface Props {
  readonly tried: Tried | null;
  readonly retry: () => void;
  readonly label: string;
  /** The plan that is edited: what it is now stands against nothing. */
  readonly planId?: string | null;
}

/** A dry run: what would change, how many events would be written, and what stands against it. */
export function Tries({ tried, retry, label, planId = null }: Props) {
  if (tried === null) return <Waiting rows={2} />;
  const { run, error, at } = tried;
  if (run === null)
    return (
      <Note tone={error?.code === 'nothing_to_revert' ? 'quiet' : 'failed'}>
        {error?.message} <span class="small muted">{error?.code}</span>{' '}
        <button type="button" class="btn" onClick={retry}>
          Try again
        </button>
      </Note>
    );
  const conflicts = run.conflicts.filter((one) => planId === null || one.planId !== planId);
  return (
    <div>
      <ul class="diffs" aria-label={label}>
        {linesOfRun(run.changes, conflicts).map(({ change, note, ...flag }) => (
          <li key={`${flag.environment} ${flag.flagKey}`}>
            <span class="row between">
              <FlagName {...flag} />
              <span class="mono">{change}</span>
            </span>
            {note}
          </li>
        ))}
      </ul>
      <p class="small">
        <span class="muted">
          Tried at <ClockTime at={at} /> without changing anything: it writes{' '}
          {countText(run.events, 'event')}
          {conflicts.length > 0 && ` and meets ${countText(conflicts.length, 'conflict')}`}.
        </span>{' '}
        <button type="button" class="link" onClick={retry}>
          Try again
        </button>
      </p>
    </div>
  );
}
