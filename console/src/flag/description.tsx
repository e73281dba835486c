import { useState } from 'preact/hooks';
import { announce } from '../announce.ts';
import { fieldProblems, problemAt } from '../data/field_problems.ts';
import { isAdmin } from '../data/person.ts';
import { sendRest } from '../data/rest.ts';
import { currentRevision, isStale, useSending } from '../data/sending.ts';
import { Field } from '../parts/field.tsx';
import { Refused, Stale } from '../parts/stale.tsx';
import { changeRequest, type SeenFlag } from '../schedules/requests.ts';

interface Props {
  readonly flag: SeenFlag & { readonly description: string | null };
}

/** What the flag is for: a line that an admin can change in place. */
export function Description({ flag }: Props) {
  const [seen, setSeen] = useState<Props['flag'] | null>(null);
  if (seen !== null)
    return <Form key={seen.revision} flag={seen} now={flag} onClose={() => setSeen(null)} />;
  return (
    <span class="row about">
      <span class="muted">{flag.description ?? (isAdmin.value ? 'No description.' : '')}</span>
      {isAdmin.value && (
        <button
          {...{ type: 'button', class: 'link', 'aria-label': 'Edit the description' }}
          onClick={() => setSeen(flag)}
        >
          Edit
        </button>
      )}
    </span>
  );
}

interface FormProps extends Props {
  /** The flag as it is now, if somebody changes it meanwhile. */
  readonly now: Props['flag'];
  readonly onClose: () => void;
}

function Form({ flag, now, onClose }: FormProps) {
  const [text, setText] = useState(flag.description ?? '');
  const sending = useSending();
  const problems = fieldProblems(sending.error);
  const save = async (revision: number): Promise<void> => {
    const description = text.trim() === '' ? null : text.trim();
    const request = changeRequest({ ...flag, revision }, { description }, '');
    if (!(await sending.send(() => sendRest(request)))) return;
    announce('The description is saved');
    onClose();
  };
  return (
    <form
      class="stack grow"
      onSubmit={(event) => {
        event.preventDefault();
        void save(flag.revision);
      }}
      onKeyDown={({ key }) => key === 'Escape' && onClose()}
    >
      <Field
        {...{ label: 'Description', value: text, onText: setText }}
        problem={problemAt(problems, 'description')}
      />
      {isStale(sending.error) && sending.error !== null ? (
        <Stale
          error={sending.error}
          onKeepMine={() => void save(currentRevision(sending.error) ?? now.revision)}
          onTakeTheirs={onClose}
          onCancel={onClose}
        />
      ) : (
        problems.length === 0 && <Refused error={sending.error} />
      )}
      <span class="row">
        <button type="submit" class="btn primary" aria-disabled={sending.isBusy}>
          Save
        </button>
        <button type="button" class="btn" onClick={onClose}>
          Cancel
        </button>
      </span>
    </form>
  );
}
