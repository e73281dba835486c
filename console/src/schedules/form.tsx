import { useState } from 'preact/hooks';
import { announce } from '../announce.ts';
import { databaseNow, now } from '../data/clock.ts';
import { useDraft } from '../data/draft.ts';
import { fieldProblems, isAtField, problemAt, type FieldProblem } from '../data/field_problems.ts';
import { useResource } from '../data/resource.ts';
import { sendRest } from '../data/rest.ts';
import { useSending } from '../data/sending.ts';
import { curlOf } from '../parts/command.tsx';
import { CopyButton } from '../parts/copy.tsx';
import { MOST_REASON, ReasonField } from '../parts/field.tsx';
import { Failure, Note } from '../parts/note.tsx';
import { Refused } from '../parts/stale.tsx';
import { useLater } from '../parts/use_later.ts';
import { zone } from '../settings.ts';
import { shortText } from '../time/format.ts';
import { ChangeFields } from './change_fields.tsx';
import { changeName } from './change.ts';
import { FLAG_AHEAD } from './documents.ts';
import { focusProblem } from './focus_problem.ts';
import { FlagField } from './flag_field.tsx';
import type { Pending } from './effect.ts';
import { newSchedule, readSchedule, type ReadSchedule, type ScheduleText } from './form_model.ts';
import { PendingNote } from './pending_note.tsx';
import { scheduleRequest, type FlagName } from './requests.ts';
import { useCheck } from './use_check.ts';
import { WhenFields } from './when_fields.tsx';

interface Props {
  readonly environment: string;
  /** Null: the form asks for it. */
  readonly flagKey: string | null;
  readonly onDone?: (flag: FlagName) => void;
  /** Where it stands in a dialog. */
  readonly onClose?: () => void;
}

const SHOWN = ['scheduled_at', 'updates', 'reason', 'flag_key', 'environment'];

/** Schedules a change of a flag: what, when, what it meets, why. */
export function ScheduleForm({ environment, flagKey, onDone, onClose }: Props) {
  const fresh = (): ScheduleText =>
    newSchedule(environment, flagKey ?? '', zone.value, databaseNow());
  const { values, change, drop } = useDraft<ScheduleText>(`schedule ${environment}`, fresh());
  const flag: FlagName = {
    environment: flagKey === null ? values.environment : environment,
    flagKey: flagKey ?? values.flagKey.trim(),
  };
  const key = useLater(flag.flagKey);
  const found = useResource(
    FLAG_AHEAD,
    key === '' ? null : { environment: flag.environment, flagKey: key },
  );
  const answer = found.data.value?.featureFlagByEnvironmentAndFlagKey ?? null;
  const known = answer?.flagKey === flag.flagKey ? answer : null;
  const read = readSchedule(
    values,
    known === null ? null : { ...known, pending: known.schedules.nodes },
    now.value,
  );
  const sending = useSending();
  const check = useCheck();
  const [wrong, setWrong] = useState<readonly FieldProblem[]>([]);
  const [done, setDone] = useState('');
  const problems = [...wrong, ...fieldProblems(sending.error)];
  const set = (some: Partial<ScheduleText>): void => {
    setWrong([]);
    setDone('');
    sending.forget();
    change(some);
  };
  const request =
    read.at === null || read.updates === null || flag.flagKey === ''
      ? null
      : scheduleRequest(flag, read.at, read.updates, values.reason);
  const submit = async (form: HTMLFormElement): Promise<void> => {
    const missing = missingOf(flag.flagKey, read);
    const bad = missing.length > 0 || request === null ? missing : check('schedule', request.body);
    setWrong(bad);
    if (request === null || bad.length > 0 || Array.from(values.reason).length > MOST_REASON) {
      focusProblem(form);
      return;
    }
    if (!(await sending.send(() => sendRest(request)))) return;
    const sentence = `Scheduled: ${changeName(read.updates)}, ${flag.flagKey}, ${shortText(read.at ?? 0, zone.value, databaseNow())}`;
    announce(sentence);
    setDone(sentence);
    drop(fresh());
    void found.refetch();
    onDone?.(flag);
  };
  return (
    <form
      noValidate
      aria-label="Schedule a change"
      onSubmit={(event) => {
        event.preventDefault();
        void submit(event.currentTarget);
      }}
    >
      <div class="body stack">
        {flagKey === null && (
          <FlagField
            {...{ environment: flag.environment, flagKey: values.flagKey, onChange: set }}
            problem={
              problemAt(problems, 'flag_key') ??
              (found.data.value !== null && answer === null && key === flag.flagKey
                ? `No flag “${flag.flagKey}” in ${flag.environment}.`
                : null)
            }
          />
        )}
        <ChangeFields
          {...{ value: values, onChange: set, isOff: read.isOff }}
          problem={problemAt(problems, 'updates')}
        />
        <WhenFields
          {...{ value: values, onChange: set, problem: problemAt(problems, 'scheduled_at') }}
        />
        {read.neighbours !== null && read.updates !== null && (
          <PendingNote neighbours={read.neighbours} updates={read.updates} />
        )}
        <ReasonField
          {...{ value: values.reason, problem: problemAt(problems, 'reason') }}
          onText={(reason) => set({ reason })}
        />
        <Failure isPart={flagKey !== null} error={found.error} refetch={found.refetch} />
        {done !== '' && <Note tone="applied">{done}.</Note>}
        {!isAtField(problems, SHOWN) && <Refused error={sending.error} />}
      </div>
      <div class="foot between">
        {onClose !== undefined && (
          <button type="button" class="btn" onClick={onClose}>
            Close
          </button>
        )}
        {request !== null && <CopyButton text={curlOf(request)}>Copy as curl</CopyButton>}
        <button type="submit" class="btn primary push" aria-disabled={sending.isBusy}>
          Schedule
        </button>
      </div>
    </form>
  );
}

/** What is missing before there is a request at all. */
function missingOf(flagKey: string, { updates, when }: ReadSchedule<Pending>): FieldProblem[] {
  const missing: FieldProblem[] = [];
  if (flagKey === '') missing.push({ path: 'flag_key', message: 'Which flag?' });
  if (updates === null)
    missing.push({ path: 'updates', message: 'Which share? A whole number from 0 to 100.' });
  if (when.kind === 'bad') missing.push({ path: 'scheduled_at', message: when.message });
  return missing;
}
