import { problemAt, type FieldProblem } from '../data/field_problems.ts';
import { Choice } from '../parts/field.tsx';
import { applyUpdates, InlineDiff } from '../parts/flag_state.tsx';
import { ChangeFields } from '../schedules/change_fields.tsx';
import { FlagField } from '../schedules/flag_field.tsx';
import { isOutdated, type ChangeRow, type ReadRow } from './form_model.ts';
import { valueText } from './model.ts';
import type { OnConflict } from './requests.ts';

interface Props {
  readonly row: ChangeRow;
  readonly read: ReadRow;
  readonly number: number;
  readonly problems: readonly FieldProblem[];
  readonly onChange: (some: Partial<ChangeRow>) => void;
  /** Null: the last one stays. */
  readonly onRemove: (() => void) | null;
}

const RULES: readonly (readonly [OnConflict, string])[] = [
  ['suspend', 'Wait'],
  ['keep', 'Keep it'],
  ['overwrite', 'Overwrite'],
];

/** One flag of a plan: which, what of it, and what to do where it isn't as it is shown. */
export function ChangeRowFields({ row, read, number, problems, onChange, onRemove }: Props) {
  const path = `changes.${number - 1}`;
  // What one changes is no more what the plan has.
  const set = (some: Partial<ChangeRow>): void => onChange({ ...some, given: null });
  const flagProblem = problemAt(problems, `${path}.flag_key`);
  const whole = problems.find((problem) => problem.path === path)?.message ?? null;
  return (
    <fieldset class="change">
      <legend class="vh">Flag {number}</legend>
      <FlagField
        {...{ environment: row.environment, flagKey: row.flagKey, onChange: set }}
        problem={flagProblem ?? whole}
      />
      <ChangeFields
        {...{ value: row, onChange: set, isOff: read.before?.enabled === false }}
        problem={problemAt(problems, `${path}.updates`)}
      />
      <Choice
        {...{ label: 'If it isn’t as shown', value: row.rule, choices: RULES }}
        onChoose={(rule) => onChange({ rule })}
      />
      <div class="row between small">
        <span>
          <Effect row={row} read={read} />
        </span>
        {onRemove !== null && (
          <button
            {...{ type: 'button', class: 'link', onClick: onRemove }}
            aria-label={`Remove flag ${number}${row.flagKey === '' ? '' : `, ${row.flagKey}`}`}
          >
            Remove
          </button>
        )}
      </div>
      {row.rule !== 'overwrite' && isOutdated(row, read) && (
        <div class="row small conflict">
          The plan expects{' '}
          {Object.entries(row.given?.expects ?? {})
            .map(([field, value]) => valueText(field, value))
            .join(', ')}
          .
          <button type="button" class="btn" onClick={() => set({})}>
            Expect what is shown
          </button>
        </div>
      )}
    </fieldset>
  );
}

function Effect({ row, read }: { readonly row: ChangeRow; readonly read: ReadRow }) {
  const { before, updates } = read;
  if (before === null || updates === null) return null;
  const given = row.given?.updates;
  const after = applyUpdates(
    before,
    given === undefined
      ? updates
      : {
          enabled: typeof given.enabled === 'boolean' ? given.enabled : null,
          rolloutPercentage:
            typeof given.rollout_percentage === 'number' ? given.rollout_percentage : null,
        },
  );
  return (
    <>
      <span class="muted">At that instant: </span>
      <InlineDiff before={before} after={after} />
    </>
  );
}
