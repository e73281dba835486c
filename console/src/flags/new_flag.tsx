import { useState } from 'preact/hooks';
import { announce } from '../announce.ts';
import { useDraft } from '../data/draft.ts';
import { fieldProblems, isAtField, problemAt, type FieldProblem } from '../data/field_problems.ts';
import { environments } from '../data/person.ts';
import { sendRest, type RestRequest } from '../data/rest.ts';
import { useSending } from '../data/sending.ts';
import { curlOf } from '../parts/command.tsx';
import { CopyButton } from '../parts/copy.tsx';
import { Dialog } from '../parts/dialog.tsx';
import { Choice, Field } from '../parts/field.tsx';
import { Refused } from '../parts/stale.tsx';
import { link, navigate } from '../router.ts';
import { focusProblem } from '../schedules/focus_problem.ts';
import { useCheck } from '../schedules/use_check.ts';

interface Props {
  readonly environment: string;
  readonly onClose: () => void;
}

const SHOWN = ['flag_key', 'environment', 'description'];

/** Creates a flag, which is off until somebody changes or schedules it. */
export function NewFlag({ environment, onClose }: Props) {
  const { values, change, drop } = useDraft(`flag ${environment}`, {
    flagKey: '',
    description: '',
    environment,
  });
  const [wrong, setWrong] = useState<readonly FieldProblem[]>([]);
  const sending = useSending();
  const check = useCheck();
  const problems = [...wrong, ...fieldProblems(sending.error)];
  const set = (some: Partial<typeof values>): void => {
    setWrong([]);
    sending.forget();
    change(some);
  };
  const key = values.flagKey.trim();
  const description = values.description.trim();
  const request: RestRequest = {
    ...{ method: 'POST', path: '/api/admin/flags' },
    body: {
      ...{ flag_key: key, environment: values.environment },
      ...(description === '' ? {} : { description }),
    },
  };
  const submit = async (form: HTMLFormElement): Promise<void> => {
    const bad =
      key === '' ? [{ path: 'flag_key', message: 'Which key?' }] : check('flag', request.body);
    setWrong(bad);
    if (bad.length > 0) {
      focusProblem(form);
      return;
    }
    if (!(await sending.send(() => sendRest(request)))) return;
    announce(`Created: ${key} in ${values.environment}`);
    drop();
    navigate(
      link(`/flags/${encodeURIComponent(values.environment)}/${encodeURIComponent(key)}`, {
        env: values.environment,
      }),
      { replace: true },
    );
  };
  return (
    <Dialog title="New flag" onClose={onClose}>
      <form
        noValidate
        onSubmit={(event) => {
          event.preventDefault();
          void submit(event.currentTarget);
        }}
      >
        <div class="body stack">
          <Field
            {...{ label: 'Key', value: values.flagKey, placeholder: 'checkout-v2' }}
            onText={(flagKey) => set({ flagKey })}
            problem={problemAt(problems, 'flag_key')}
          />
          {environments.value.length > 1 && (
            <Choice
              {...{ label: 'Environment', value: values.environment }}
              choices={environments.value.map((name) => [name, name] as const)}
              onChoose={(name) => set({ environment: name })}
            />
          )}
          <Field
            label={
              <>
                Description <span class="muted">(may be empty)</span>
              </>
            }
            {...{ value: values.description, problem: problemAt(problems, 'description') }}
            onText={(text) => set({ description: text })}
          />
          <p class="small muted">It is off until you change it or schedule a change.</p>
          {!isAtField(problems, SHOWN) && <Refused error={sending.error} />}
        </div>
        <div class="foot">
          <button type="button" class="btn" onClick={onClose}>
            Close
          </button>
          {key !== '' && <CopyButton text={curlOf(request)}>Copy as curl</CopyButton>}
          <button type="submit" class="btn primary push" aria-disabled={sending.isBusy}>
            Create flag
          </button>
        </div>
      </form>
    </Dialog>
  );
}
