import type { Plan } from './documents.ts';
import type { FlagDiff } from './dry_run.ts';
import { differences, isOpen, valueText } from './model.ts';

interface Props {
  readonly plan: Plan;
  /** What it changed. */
  readonly done: readonly FlagDiff[];
}

/** Flags that are named; how many more there are is said. */
const NAMED = 6;

/** What taking it back would mean: the values that its flags had before it. */
export function RevertCard({ plan, done }: Props) {
  const isApplied = plan.appliedCount > 0;
  if (!isApplied && !isOpen(plan)) return null;
  return (
    <section class="card" aria-labelledby="revert">
      <header>
        <h2 id="revert">Revert</h2>
      </header>
      <div class="body stack">
        {isApplied ? (
          <p>
            Puts back{' '}
            {done.slice(0, NAMED).map((diff, i) => (
              <span key={`${diff.environment} ${diff.flagKey}`}>
                {i > 0 && ', '}
                {diff.flagKey} <strong>{valuesBefore(diff)}</strong>
              </span>
            ))}
            {done.length > NAMED && ` and ${done.length - NAMED} more`}. What somebody changed since
            is left alone and named, unless you say otherwise.
          </p>
        ) : (
          <p>
            Once it is applied, it can be taken back as a whole: its flags get the values that they
            had before it.
          </p>
        )}
      </div>
    </section>
  );
}

/** The values that it changed, as they were: `off, 25%`. */
const valuesBefore = ({ before, after }: FlagDiff): string =>
  differences(before, after)
    .map(({ field, from }) => valueText(field, from))
    .join(', ');
