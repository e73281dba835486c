import { useState } from 'preact/hooks';
import { announce } from '../announce.ts';
import { dropDraft, useDraft } from '../data/draft.ts';
import { isStale, currentRevision, useSending } from '../data/sending.ts';
import { sendRest, type RestRequest } from '../data/rest.ts';
import { curlOf } from '../parts/command.tsx';
import { CopyButton } from '../parts/copy.tsx';
import { Dialog, useFormFocus } from '../parts/dialog.tsx';
import { MOST_REASON, ReasonField } from '../parts/field.tsx';
import { Refused, Stale } from '../parts/stale.tsx';
import { focusProblem } from '../schedules/focus_problem.ts';
import type { Plan, PlanRow } from './documents.ts';
import { changesOf, countText } from './model.ts';
import { planRequest, resumeRequest } from './requests.ts';

export type PlanAction = 'cancel' | 'retry' | 'resume';

const WORDS = {
  cancel: {
    title: 'Cancel the plan',
    back: 'Keep it',
    button: 'Cancel plan',
    done: 'Cancelled',
    text: 'None of its flags is changed. It stays in the list, as cancelled.',
  },
  retry: {
    title: 'Try the plan again',
    back: 'Leave it',
    button: 'Try again now',
    done: 'To be tried again',
    text: 'It is due at once: all of its flags change, or none.',
  },
  resume: {
    title: 'Resume the plan',
    back: 'Leave it suspended',
    button: 'Set its flags now',
    done: 'Resumed',
    text: 'Its flags are set at once, also those that are not as it expects: what somebody else set there is overwritten.',
  },
} as const;

interface Props {
  readonly plan: Plan;
  readonly rows: readonly PlanRow[];
  readonly action: PlanAction;
  readonly onClose: () => void;
}

/** A request for the plan as it was read, or of another revision of it; null where nothing of it is suspended any more. */
function requestOf(
  { plan, rows, action }: Omit<Props, 'onClose'>,
  revision: number,
  reason: string,
): RestRequest | null {
  if (action !== 'resume') return planRequest(action, { id: plan.id, revision }, reason);
  const row = rows.find(({ status, flag }) => status === 'suspended' && flag !== null);
  if (row?.flag === undefined || row.flag === null) return null;
  return resumeRequest({ id: row.id, ...row.flag }, reason);
}

/** Asks before a plan is cancelled, tried again, or resumed in spite of a conflict. */
export function PlanDialog(props: Props) {
  const { plan, action, onClose } = props;
  const draft = `${action} ${plan.id}`;
  const { values, change } = useDraft(draft, { reason: '' });
  const [isAsked, setAsked] = useState(false);
  const sending = useSending();
  const form = useFormFocus();
  const word = WORDS[action];
  // Who resumes overwrites what somebody has set: the trail says why.
  const isMissing = action === 'resume' && values.reason.trim() === '';
  const request = requestOf(props, plan.revision, values.reason);
  const leave = (): void => {
    dropDraft(draft);
    onClose();
  };
  const send = async (revision: number): Promise<void> => {
    const asked = requestOf(props, revision, values.reason);
    if (asked === null || !(await sending.send(() => sendRest(asked)))) return;
    announce(`${word.done}: ${plan.title}`);
    leave();
  };
  return (
    <Dialog title={word.title} onClose={leave}>
      <form
        ref={form}
        noValidate
        onSubmit={(event) => {
          event.preventDefault();
          setAsked(true);
          if (isMissing || Array.from(values.reason).length > MOST_REASON)
            focusProblem(event.currentTarget);
          else void send(plan.revision);
        }}
      >
        <div class="body stack">
          <p>
            <strong>{plan.title}</strong>, {countText(changesOf(plan).length, 'flag')} in{' '}
            {plan.environments.join(', ')}. {word.text}
          </p>
          <ReasonField
            {...{ value: values.reason, onText: (reason: string) => change({ reason }) }}
            problem={isAsked && isMissing ? 'Why? The trail keeps it.' : null}
          />
          {sending.error !== null && isStale(sending.error) ? (
            <Stale
              error={sending.error}
              onKeepMine={() => void send(currentRevision(sending.error) ?? plan.revision)}
              // The page behind the dialog shows the plan as it is now.
              onTakeTheirs={leave}
              onCancel={leave}
            />
          ) : (
            <Refused error={sending.error} />
          )}
        </div>
        <div class="foot">
          <button type="button" class="btn" onClick={leave}>
            {word.back}
          </button>
          {request !== null && !isMissing && (
            <CopyButton text={curlOf(request)}>Copy as curl</CopyButton>
          )}
          <button
            type="submit"
            class={action === 'cancel' ? 'btn danger primary push' : 'btn primary push'}
            aria-disabled={sending.isBusy}
          >
            {word.button}
          </button>
        </div>
      </form>
    </Dialog>
  );
}
