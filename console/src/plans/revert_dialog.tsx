import { announce } from '../announce.ts';
import { databaseNow, now } from '../data/clock.ts';
import { dropDraft, useDraft } from '../data/draft.ts';
import { fieldProblems, problemAt } from '../data/field_problems.ts';
import { sendRest } from '../data/rest.ts';
import { useSending } from '../data/sending.ts';
import { curlOf } from '../parts/command.tsx';
import { CopyButton } from '../parts/copy.tsx';
import { Dialog, useFormFocus } from '../parts/dialog.tsx';
import { Choice, MOST_REASON, ReasonField } from '../parts/field.tsx';
import { Refused } from '../parts/stale.tsx';
import { link, navigate } from '../router.ts';
import { focusProblem } from '../schedules/focus_problem.ts';
import { WhenFields } from '../schedules/when_fields.tsx';
import { zone } from '../settings.ts';
import { dateText, shortText } from '../time/format.ts';
import { readWhen, type WhenText } from '../time/when.ts';
import { useDryRun } from './dry_run.ts';
import { fieldsOf } from './model.ts';
import { revertRequest, type OnConflict, type Source } from './requests.ts';
import { Tries } from './tries.tsx';

export interface RevertDialogProps {
  readonly source: Source;
  /** What is taken back, in words. */
  readonly what: string;
  readonly onClose: () => void;
}

interface RevertText extends WhenText {
  readonly isNow: boolean;
  readonly onConflict: OnConflict;
  readonly reason: string;
  readonly [name: string]: unknown;
}

const RULES: readonly (readonly [OnConflict, string])[] = [
  ['keep', 'Keep it'],
  ['suspend', 'Wait'],
  ['overwrite', 'Overwrite'],
];

/** Takes back what was changed: shows by a dry run what that does, and asks when and why. */
export function RevertDialog({ source, what, onClose }: RevertDialogProps) {
  const draft = `revert ${JSON.stringify(source)}`;
  const { values, change } = useDraft<RevertText>(draft, {
    ...{ isNow: true, onConflict: 'keep', reason: '' },
    ...{ date: dateText(databaseNow(), zone.value), time: '', zone: zone.value, choice: '' },
  });
  const sending = useSending();
  const form = useFormFocus();
  const when = readWhen(values, now.value);
  const at = when.kind === 'instant' ? when.at : null;
  const { onConflict, reason } = values;
  const { tried, retry } = useDryRun(
    revertRequest({ source, onConflict, at: values.isNow ? null : at, reason: '' }, true),
    sending.isBusy,
  );
  const isReady = (values.isNow || at !== null) && Array.from(reason).length <= MOST_REASON;
  const request = revertRequest({ source, onConflict, at: values.isNow ? null : at, reason });
  const problems = fieldProblems(sending.error);
  const set = (some: Partial<RevertText>): void => {
    sending.forget();
    change(some);
  };
  const leave = (): void => {
    dropDraft(draft);
    onClose();
  };
  const submit = async (element: HTMLFormElement): Promise<void> => {
    let made: unknown = null;
    if (!isReady || !(await sending.send(async () => (made = await sendRest(request))))) {
      focusProblem(element);
      return;
    }
    announce(`${values.isNow ? 'Reverted' : 'To be reverted'}: ${what}`);
    leave();
    const id = fieldsOf(made)?.id;
    if (typeof id === 'string') navigate(link(`/plans/${id}`));
  };
  return (
    <Dialog title={`Revert ${what}`} onClose={leave}>
      <form
        ref={form}
        noValidate
        onSubmit={(event) => {
          event.preventDefault();
          void submit(event.currentTarget);
        }}
      >
        <div class="body stack">
          <Tries {...{ tried, retry, label: 'What the revert does' }} />
          <Choice
            {...{ label: 'What somebody changed since', value: onConflict, choices: RULES }}
            onChoose={(rule) => set({ onConflict: rule })}
          />
          <Choice
            {...{ label: 'When', value: values.isNow ? 'now' : 'at' }}
            choices={[
              ['now', 'Now'],
              ['at', 'At a time'],
            ]}
            onChoose={(choice) => set({ isNow: choice === 'now' })}
          />
          {!values.isNow && (
            <WhenFields
              {...{ value: values, onChange: set }}
              problem={problemAt(problems, 'scheduled_at') ?? problemAt(problems, 'at')}
            />
          )}
          <ReasonField
            {...{ value: reason, problem: problemAt(problems, 'reason') }}
            onText={(text) => set({ reason: text })}
          />
          {problems.length === 0 && <Refused error={sending.error} />}
        </div>
        <div class="foot between">
          <button type="button" class="btn" onClick={leave}>
            Leave it
          </button>
          <CopyButton text={curlOf(request)}>Copy as curl</CopyButton>
          <button type="submit" class="btn primary push" aria-disabled={sending.isBusy}>
            {values.isNow
              ? 'Revert now'
              : `Revert${at === null ? ' at…' : ` ${shortText(at, zone.value, now.value)}`}`}
          </button>
        </div>
      </form>
    </Dialog>
  );
}
