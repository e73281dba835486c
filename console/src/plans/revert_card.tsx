import { isAdmin } from '../data/person.ts';
import type { Plan, PlanRow } from './documents.ts';
import { fieldsOf, fieldName, isOpen, valueText } from './model.ts';
import { RevertButton } from './revert_button.tsx';

interface Props {
  readonly plan: Plan;
  readonly rows: readonly PlanRow[];
}

/** Flags that are named; how many more there are is said. */
const NAMED = 6;

/** What taking it back would mean: the values that its flags had before it. */
export function RevertCard({ plan, rows }: Props) {
  const isApplied = plan.appliedCount > 0;
  if (!isApplied && !isOpen(plan)) return null;
  const known = rows.filter(({ before }) => fieldsOf(before) !== null);
  return (
    <section class="card" aria-labelledby="revert">
      <header>
        <h2 id="revert">Revert</h2>
      </header>
      <div class="body stack">
        {isApplied ? (
          <p>
            Puts back{' '}
            {known.slice(0, NAMED).map(({ id, flag, before }, i) => (
              <span key={id}>
                {i > 0 && ', '}
                {flag?.flagKey} <strong>{stateBefore(fieldsOf(before) ?? {})}</strong>
              </span>
            ))}
            {known.length > NAMED && ` and ${known.length - NAMED} more`}. What somebody changed
            since is left alone and named, unless you say otherwise.
          </p>
        ) : (
          <p>
            Once it is applied, it can be taken back as a whole: its flags get the values that they
            had before it.
          </p>
        )}
        {isApplied && isAdmin.value && (
          <div class="row">
            <RevertButton source={{ kind: 'plan', id: plan.id }} what={plan.title} />
          </div>
        )}
      </div>
    </section>
  );
}

/** What a flag was, in short: `off`, or its share; a field that is new here by its name. */
function stateBefore(before: Readonly<Record<string, unknown>>): string {
  if (before.enabled === false) return 'off';
  const { enabled, rollout_percentage: share, ...others } = before;
  const rest = Object.entries(others).map(
    ([field, value]) => `${fieldName(field)} ${valueText(field, value)}`,
  );
  const shown = share === 100 && enabled === true ? 'on' : valueText('rollout_percentage', share);
  return [shown, ...rest].join(', ');
}
