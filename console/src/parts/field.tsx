import type { ComponentChildren, RefObject } from 'preact';
import { useId } from 'preact/hooks';

interface Props {
  readonly label: ComponentChildren;
  readonly value: string;
  readonly onText: (text: string) => void;
  /** What is wrong with it. */
  readonly problem?: string | null;
  /** Ids of what else describes it. */
  readonly describedBy?: string;
  readonly field?: RefObject<HTMLInputElement>;
  /** The id of a datalist. */
  readonly list?: string;
  readonly placeholder?: string;
  readonly inputMode?: 'numeric';
  readonly onLeave?: () => void;
  /** Behind the input, in its row. */
  readonly children?: ComponentChildren;
}

/** A text field with its name above, and below what is wrong with it. */
export function Field(props: Props) {
  const { label, value, onText, problem = null, describedBy, field, onLeave, children } = props;
  const { list, placeholder, inputMode } = props;
  const id = useId();
  const described = [problem === null ? '' : `${id}-bad`, describedBy ?? ''].filter(Boolean);
  return (
    <div class="field">
      <label htmlFor={id}>{label}</label>
      <span class="inputs">
        <input
          {...{ id, value, type: 'text', class: 'input', autoComplete: 'off', spellcheck: false }}
          // Phones would write a flag's key with a capital.
          {...{ autoCapitalize: 'off', autoCorrect: 'off' }}
          {...(field === undefined ? {} : { ref: field })}
          {...(list === undefined ? {} : { list })}
          {...(placeholder === undefined ? {} : { placeholder })}
          {...(inputMode === undefined ? {} : { inputMode })}
          {...(problem === null ? {} : { 'aria-invalid': 'true' as const })}
          {...(described.length === 0 ? {} : { 'aria-describedby': described.join(' ') })}
          onInput={({ currentTarget }) => onText(currentTarget.value)}
          onBlur={() => onLeave?.()}
        />
        {children}
      </span>
      {problem !== null && (
        <span id={`${id}-bad`} class="small failed">
          {problem}
        </span>
      )}
    </div>
  );
}

interface ReasonProps {
  readonly value: string;
  readonly onText: (text: string) => void;
  readonly problem?: string | null;
  /** Behind its name. */
  readonly note?: string;
}

/** Characters of a reason, as code points. */
export const MOST_REASON = 500;

/** Why a person makes a change: it goes into the trail. */
export function ReasonField(props: ReasonProps) {
  const { value, onText, problem = null, note = 'in the trail' } = props;
  const id = useId();
  const count = Array.from(value.trim()).length;
  const isLong = count > MOST_REASON;
  return (
    <div class="field">
      <span class="row between">
        <label htmlFor={id}>
          Why <span class="muted">({note})</span>
        </label>
        {count > 0 && (
          <span class={isLong ? 'small failed' : 'small muted'}>
            {count} of {MOST_REASON}
          </span>
        )}
      </span>
      <input
        {...{ id, value, class: 'input', autoComplete: 'off' }}
        {...(isLong || problem !== null
          ? { 'aria-invalid': 'true' as const, 'aria-describedby': `${id}-bad` }
          : {})}
        onInput={({ currentTarget }) => onText(currentTarget.value)}
      />
      {(isLong || problem !== null) && (
        <span id={`${id}-bad`} class="small failed">
          {problem ?? `${count - MOST_REASON} characters too many.`}
        </span>
      )}
    </div>
  );
}

interface ChoiceProps<T extends string> {
  readonly label: string;
  readonly value: T;
  readonly choices: readonly (readonly [T, string])[];
  readonly onChoose: (choice: T) => void;
}

/** Choices beyond these are in a list. */
const MOST_BUTTONS = 4;

/** One of a few: radio buttons that look as the other groups of buttons. One of many: a list. */
export function Choice<T extends string>({ label, value, choices, onChoose }: ChoiceProps<T>) {
  const id = useId();
  if (choices.length > MOST_BUTTONS)
    return (
      <div class="field">
        <label htmlFor={id}>{label}</label>
        <select
          {...{ id, class: 'input', value }}
          onChange={({ currentTarget }) => {
            const found = choices[currentTarget.selectedIndex];
            if (found !== undefined) onChoose(found[0]);
          }}
        >
          {choices.map(([choice, text]) => (
            <option key={choice} value={choice}>
              {text}
            </option>
          ))}
        </select>
      </div>
    );
  return (
    <div class="field">
      <span class="lab" id={id}>
        {label}
      </span>
      <span class="seg" role="radiogroup" aria-labelledby={id}>
        {choices.map(([choice, text]) => (
          <label key={choice}>
            <input
              {...{ type: 'radio', class: 'vh', name: id, value: choice }}
              checked={choice === value}
              onChange={() => onChoose(choice)}
            />
            {text}
          </label>
        ))}
      </span>
    </div>
  );
}
