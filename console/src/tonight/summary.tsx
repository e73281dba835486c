import { isAdmin, readsTrail } from '../data/person.ts';
import { now } from '../data/clock.ts';
import { zone } from '../settings.ts';
import { durationText, shortText } from '../time/format.ts';
import { PauseButton } from '../stop/pause_button.tsx';
import { flagPath } from '../timeline/lane.tsx';
import type { FailedOne } from './handover.ts';
import { mostAsked, type Item } from './model.ts';

interface Props {
  readonly items: readonly Item[];
  readonly failed: readonly FailedOne[];
  /** As `today`. */
  readonly since: string;
}

const plural = (n: number, one: string, many: string): string => (n === 1 ? one : many);

/** Four numbers: how much, what to decide, what failed, and who to ask. */
export function Summary({ items, failed, since }: Props) {
  const changes = items.reduce((sum, item) => sum + item.changes.length, 0);
  const times = new Set(items.map(({ at }) => at)).size;
  const conflicts = items.filter(({ isConflict }) => isConflict);
  const [conflict] = conflicts;
  const [lost] = failed;
  const most = mostAsked(items);
  const [first] = items;
  return (
    <section class="card summary" aria-label="In short">
      <div>
        <span class="state">{changes.toLocaleString('en-US')}</span>
        <span>
          {plural(changes, 'change', 'changes')}
          {times > 0 && `, at ${times} ${plural(times, 'time', 'times')}`}
        </span>
      </div>
      <div>
        <span class={conflict === undefined ? 'state' : 'state conflict'}>{conflicts.length}</span>
        {conflict === undefined ? (
          <span>to decide</span>
        ) : (
          <span>
            to decide <a href="#conflict">before {shortText(conflict.at, zone.value, now.value)}</a>
          </span>
        )}
      </div>
      <div>
        <span class={lost === undefined ? 'state' : 'state failed'}>{failed.length}</span>
        <span>
          failed {since}
          {lost !== undefined && (
            <>
              : <a href={flagPath(lost)}>{lost.flagKey}</a>
              {failed.length > 1 && ` and ${failed.length - 1} more`}
            </>
          )}
        </span>
      </div>
      {readsTrail.value ? (
        <div>
          <span class="state">{most?.count ?? 0}</span>
          <span>{most === null ? 'people asked' : `asked for by ${most.by}, the most`}</span>
        </div>
      ) : (
        <div>
          <span class="state">
            {first === undefined ? '–' : durationText(first.at - now.value)}
          </span>
          <span>{first === undefined ? 'nothing comes' : `until ${first.flagKey} changes`}</span>
        </div>
      )}
    </section>
  );
}

/** Where one goes when something breaks. */
export const IfItBreaks = ({ end, href }: { readonly end: string; readonly href: string }) => (
  <section class="card" aria-labelledby="breaks">
    <header>
      <h2 id="breaks">If something breaks</h2>
    </header>
    <div class="body stack">
      <PauseButton class="btn big danger" paused="Paused · resume…">
        Pause all…
      </PauseButton>
      <a class="btn big" href={href}>
        {isAdmin.value ? 'Turn off one flag…' : 'See which flags are on'}
      </a>
      <a class="btn big" href={end}>
        How it will be at the end
      </a>
    </div>
  </section>
);
