import { Choice, Field } from '../parts/field.tsx';
import { parseShare, type ChangeKind, type ChangeText } from './change.ts';

interface Props {
  readonly value: ChangeText;
  readonly onChange: (value: Partial<ChangeText>) => void;
  /** Whether the flag is off when a share would be set. */
  readonly isOff: boolean;
  /** What the server found wrong with it. */
  readonly problem?: string | null;
}

const CHOICES: readonly (readonly [ChangeKind, string])[] = [
  ['on', 'Turn on'],
  ['off', 'Turn off'],
  ['share', 'Set share'],
];

/** What to change: on, off, or the share of users. */
export const ChangeFields = ({ value, onChange, isOff, problem = null }: Props) => (
  <>
    <Choice
      {...{ label: 'Change', value: value.kind, choices: CHOICES }}
      onChoose={(kind) => onChange({ kind })}
    />
    {value.kind === 'share' && (
      <Field
        {...{ label: 'Share of users', value: value.share, inputMode: 'numeric' }}
        onText={(share) => onChange({ share })}
        problem={
          problem ??
          (value.share !== '' && parseShare(value.share) === null
            ? 'No share: a whole number from 0 to 100.'
            : null)
        }
      />
    )}
    {value.kind === 'share' && isOff && (
      <label class="check">
        <input
          {...{ type: 'checkbox', checked: value.turnsOn }}
          onChange={({ currentTarget }) => onChange({ turnsOn: currentTarget.checked })}
        />
        Turn it on too: it is off then
      </label>
    )}
    {value.kind !== 'share' && problem !== null && <span class="small failed">{problem}</span>}
  </>
);
