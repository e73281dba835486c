import { problemAt, type FieldProblem } from '../data/field_problems.ts';
import { chosenEnvironment } from '../data/person.ts';
import { ChangeRowFields } from './change_row.tsx';
import { newRow, type ChangeRow, type ReadRow } from './form_model.ts';

/** Changes of one plan, as the API takes them. */
const MOST = 200;

interface Props {
  readonly rows: readonly ChangeRow[];
  readonly read: readonly ReadRow[];
  readonly problems: readonly FieldProblem[];
  readonly onChange: (rows: readonly ChangeRow[]) => void;
}

/** The flags of a plan, which may be of several environments. */
export function ChangeList({ rows, read, problems, onChange }: Props) {
  const whole = problems.find(({ path }) => path === 'changes' || path === 'steps');
  return (
    <div class="stack">
      {rows.map((row, i) => (
        <ChangeRowFields
          // A row has no name of its own: its place is what it is called by.
          key={i}
          {...{ row, problems, number: i + 1 }}
          read={read[i] ?? { before: null, updates: null, change: null }}
          onChange={(some) => onChange(rows.with(i, { ...row, ...some }))}
          onRemove={rows.length === 1 ? null : () => onChange(rows.toSpliced(i, 1))}
        />
      ))}
      {whole !== undefined && <span class="small failed">{problemAt([whole], whole.path)}</span>}
      <p class="small muted">
        Where a flag isn’t as it is shown when its time comes, “Wait” changes none of them and waits
        for someone (what is to happen now is refused), “Keep it” leaves what differs, and
        “Overwrite” sets it all the same.
      </p>
      {rows.length < MOST && (
        <div class="row">
          <button
            type="button"
            class="btn"
            onClick={() =>
              onChange([...rows, newRow(rows.at(-1)?.environment ?? chosenEnvironment.value)])
            }
          >
            Add a flag
          </button>
        </div>
      )}
    </div>
  );
}
