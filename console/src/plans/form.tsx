import { useState } from 'preact/hooks';
import { announce } from '../announce.ts';
import { now } from '../data/clock.ts';
import { useDraft } from '../data/draft.ts';
import { fieldProblems, isAtField, problemAt, type FieldProblem } from '../data/field_problems.ts';
import { sendRest } from '../data/rest.ts';
import { currentRevision, isStale, useSending } from '../data/sending.ts';
import { curlOf } from '../parts/command.tsx';
import { CopyButton } from '../parts/copy.tsx';
import { Choice, Field, MOST_REASON, ReasonField } from '../parts/field.tsx';
import { Refused, Stale } from '../parts/stale.tsx';
import { link, navigate } from '../router.ts';
import { focusProblem } from '../schedules/focus_problem.ts';
import { WhenFields } from '../schedules/when_fields.tsx';
import { zone } from '../settings.ts';
import { shortText } from '../time/format.ts';
import { ChangeList } from './change_list.tsx';
import { useDryRun } from './dry_run.ts';
import { formProblems, missingOf, readPlan, type PlanText } from './form_model.ts';
import { countText, fieldsOf } from './model.ts';
import { changeRequest, createRequest, dryRunRequest, editRequest } from './requests.ts';
import { Tries } from './tries.tsx';
import { useFlags } from './use_flags.ts';
import { useCheck } from '../schedules/use_check.ts';

interface Props {
  /** The plan that is edited; null for a new one. */
  readonly id: string | null;
  readonly initial: PlanText;
  /** Drops what was typed, and reads the plan as it is now. */
  readonly onTakeTheirs: () => Promise<void>;
}

const SHOWN = ['title', 'scheduled_at', 'changes', 'reason'];

/** Says what a plan does and when, and tries it while one types. */
export function PlanForm({ id, initial, onTakeTheirs }: Props) {
  const { values, change, drop } = useDraft<PlanText>('plan', initial);
  const [wrong, setWrong] = useState<readonly FieldProblem[]>([]);
  // The typed word isn't kept: it is meant for the moment.
  const [typed, setTyped] = useState('');
  const [isAsked, setAsked] = useState(false);
  const sending = useSending();
  const check = useCheck();
  const flags = useFlags(values.changes);
  const read = readPlan(values, flags, id, now.value);
  const { tried, retry } = useDryRun(
    read.asked === null ? null : dryRunRequest(read.asked, id),
    sending.isBusy,
  );
  const problems = [
    ...wrong,
    ...formProblems([...fieldProblems(sending.error), ...fieldProblems(tried?.error ?? null)]),
  ];
  const set = (some: Partial<PlanText>): void => {
    setWrong([]);
    sending.forget();
    change(some);
  };
  const isProduction = values.changes.some(({ environment }) => environment === 'production');
  const mustType = values.isNow && isProduction && typed.trim() !== 'production';
  const requestOf = (revision: number) =>
    read.asked === null
      ? null
      : values.isNow
        ? changeRequest(read.asked)
        : id === null
          ? createRequest(read.asked)
          : editRequest({ id, revision }, read.asked);
  const request = values.isNow || read.at !== null ? requestOf(values.revision) : null;
  const send = async (revision: number): Promise<boolean> => {
    const asked = requestOf(revision);
    let answer: unknown = null;
    if (asked === null || !(await sending.send(async () => (answer = await sendRest(asked)))))
      return false;
    const made = fieldsOf(answer);
    const to = values.isNow ? made?.plan_id : made?.id;
    announce(values.isNow ? 'Changed' : `Planned: ${values.title.trim()}`);
    drop(initial);
    navigate(link(typeof to === 'string' ? `/plans/${to}` : '/plans'), { replace: true });
    return true;
  };
  const submit = async (form: HTMLFormElement): Promise<void> => {
    const missing = missingOf(values, read);
    const bad =
      missing.length > 0 || request === null
        ? missing
        : formProblems(check(values.isNow ? 'changes' : 'plan', bodyOf(request.body)));
    setWrong(bad);
    setAsked(true);
    const isReady = request !== null && bad.length === 0 && !mustType && reasonFits(values.reason);
    if (!isReady || !(await send(values.revision))) focusProblem(form);
  };
  const count = countText(values.changes.length, 'flag');
  return (
    <form
      class="card"
      noValidate
      aria-label={id === null ? 'New plan' : 'Edit the plan'}
      onSubmit={(event) => {
        event.preventDefault();
        void submit(event.currentTarget);
      }}
      onKeyDown={(event) => {
        if (event.key === 'Enter' && (event.ctrlKey || event.metaKey))
          event.currentTarget.requestSubmit();
      }}
    >
      <div class="two">
        <div class="body stack">
          {id === null && (
            <Choice
              {...{ label: 'When', value: values.isNow ? 'now' : 'at' }}
              choices={[
                ['at', 'At a time'],
                ['now', 'Now'],
              ]}
              onChoose={(choice) => set({ isNow: choice === 'now' })}
            />
          )}
          {values.isNow ? (
            <p class="muted">
              All flags change at once, in one transaction, also while the environment is stopped.
              The list has it as a plan of its own, to take it back.
            </p>
          ) : (
            <>
              <Field
                {...{ label: 'Title', value: values.title, placeholder: 'Black Friday' }}
                onText={(title) => set({ title })}
                problem={problemAt(problems, 'title')}
              />
              <WhenFields
                {...{ value: values, onChange: set }}
                problem={problemAt(problems, 'scheduled_at')}
              />
            </>
          )}
          <ChangeList
            {...{ rows: values.changes, read: read.rows, problems }}
            onChange={(changes) => set({ changes })}
          />
          <ReasonField
            {...{ value: values.reason, problem: problemAt(problems, 'reason') }}
            onText={(reason) => set({ reason })}
          />
          {values.isNow && isProduction && (
            <Field
              label={
                <>
                  Type <code>production</code>: this changes it at once
                </>
              }
              {...{ value: typed, onText: setTyped }}
              problem={isAsked && mustType ? 'That isn’t the environment’s name.' : null}
            />
          )}
        </div>
        <section class="body stack side-note" aria-labelledby="tries">
          <h2 id="tries">What it will do</h2>
          {read.asked === null ? (
            <p class="muted">
              Once each flag is named, it is tried here without changing anything.
            </p>
          ) : (
            <Tries {...{ tried, retry, label: 'What the plan will do', planId: id }} />
          )}
          {sending.error !== null && isStale(sending.error) ? (
            <Stale
              error={sending.error}
              onKeepMine={() => void send(currentRevision(sending.error) ?? values.revision)}
              onTakeTheirs={() => {
                sending.forget();
                void onTakeTheirs();
              }}
              onCancel={() => sending.forget()}
            />
          ) : (
            !isAtField(problems, SHOWN) && <Refused error={sending.error} />
          )}
        </section>
      </div>
      <div class="foot between">
        <a class="btn" href={link(id === null ? '/plans' : `/plans/${id}`)}>
          Close
        </a>
        {request !== null && <CopyButton text={curlOf(request)}>Copy as curl</CopyButton>}
        <button
          type="submit"
          class={values.isNow ? 'btn danger primary push' : 'btn primary push'}
          aria-disabled={sending.isBusy}
        >
          {values.isNow
            ? `Change ${count} now`
            : `${id === null ? 'Plan' : 'Save'} ${count}${read.at === null ? '' : ` for ${shortText(read.at, zone.value, now.value)}`}`}
        </button>
      </div>
    </form>
  );
}

/** As a new plan's: an edit names the revision besides. */
const bodyOf = (body: Readonly<Record<string, unknown>>) => {
  const { expected_revision: revision, ...rest } = body;
  return revision === undefined ? body : rest;
};

const reasonFits = (reason: string): boolean => Array.from(reason.trim()).length <= MOST_REASON;
