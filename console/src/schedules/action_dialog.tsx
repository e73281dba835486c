import { Fragment } from 'preact';
import { useState } from 'preact/hooks';
import { announce } from '../announce.ts';
import { now } from '../data/clock.ts';
import { dropDraft, useDraft } from '../data/draft.ts';
import { useReading } from '../data/reading.ts';
import { sendRest } from '../data/rest.ts';
import { currentRevision, isStale, useSending } from '../data/sending.ts';
import { curlOf } from '../parts/command.tsx';
import { CopyButton } from '../parts/copy.tsx';
import { Dialog, useFormFocus } from '../parts/dialog.tsx';
import { EnvironmentTag } from '../parts/environment.tsx';
import { ReasonField } from '../parts/field.tsx';
import { applyUpdates, InlineDiff, updatesText } from '../parts/flag_state.tsx';
import { Failure, Note, Waiting } from '../parts/note.tsx';
import { Refused, Stale } from '../parts/stale.tsx';
import { FullTime, InZones } from '../parts/time.tsx';
import { zone } from '../settings.ts';
import { shortText } from '../time/format.ts';
import { readWhen, whenTextOf } from '../time/when.ts';
import { ACTION_WORDS, requestOf, type ActionKind, type ReadAction } from './action_model.ts';
import { SCHEDULE_NOW } from './documents.ts';
import { differencesIn } from './guard.ts';
import { focusProblem } from './focus_problem.ts';
import { WhenFields } from './when_fields.tsx';

export type { ActionKind } from './action_model.ts';

export interface ActionDialogProps {
  /** The schedule's. */
  readonly id: string;
  readonly kind: ActionKind;
  readonly onClose: () => void;
}

/** Asks before a schedule is moved, cancelled or tried again: reads it as it is then, and changes that revision of it alone. */
export function ActionDialog({ id, kind, onClose }: ActionDialogProps) {
  const found = useReading(SCHEDULE_NOW, { id });
  const schedule = found.data.value?.featureFlagSchedule ?? null;
  const draft = `${kind} ${id}`;
  const leave = (): void => {
    dropDraft(draft);
    onClose();
  };
  return (
    <Dialog title={ACTION_WORDS[kind].title} onClose={leave}>
      <Failure error={found.error} refetch={found.read} />
      {schedule !== null ? (
        <ActionForm
          key={schedule.revision}
          {...{ schedule, kind, draft, onClose: leave }}
          onTakeTheirs={() => {
            dropDraft(draft);
            return found.read();
          }}
        />
      ) : (
        <div class="body">
          {found.data.value !== null ? (
            <Note tone="quiet">This schedule isn’t there any more.</Note>
          ) : (
            <Waiting rows={3} />
          )}
        </div>
      )}
    </Dialog>
  );
}

interface FormProps {
  readonly schedule: ReadAction;
  readonly kind: ActionKind;
  /** The name by which its values outlast a sign-in. */
  readonly draft: string;
  readonly onClose: () => void;
  readonly onTakeTheirs: () => Promise<void>;
}

function ActionForm({ schedule, kind, draft, onClose, onTakeTheirs }: FormProps) {
  const { values, change } = useDraft(draft, {
    ...whenTextOf(Date.parse(schedule.scheduledAt), zone.value),
    reason: '',
  });
  const { reason } = values;
  const sending = useSending();
  const form = useFormFocus();
  const when = readWhen(values, now.value);
  const at = when.kind === 'instant' ? when.at : null;
  const isMoved = at !== null && at !== Date.parse(schedule.scheduledAt);
  const request = requestOf(kind, schedule, at, reason);
  const word = ACTION_WORDS[kind];
  const name = word.button(
    updatesText(schedule.updates),
    shortText(
      kind === 'move' ? (at ?? 0) : Date.parse(schedule.scheduledAt),
      zone.value,
      now.value,
    ),
  );
  const send = async (revision: number): Promise<void> => {
    const asked = requestOf(kind, { ...schedule, revision }, at, reason);
    if (asked === null || !(await sending.send(() => sendRest(asked)))) return;
    announce(`${word.done}: ${schedule.flag?.flagKey ?? ''}, ${name}`);
    onClose();
  };
  // The server takes no resume without a reason.
  const isSilent = kind === 'resume' && reason.trim() === '';
  const isBlocked = request === null || (kind === 'move' && !isMoved) || isSilent;
  const [isAsked, setAsked] = useState(false);
  return (
    <form
      ref={form}
      noValidate
      onSubmit={(event) => {
        event.preventDefault();
        setAsked(true);
        if (isBlocked) focusProblem(event.currentTarget);
        else void send(schedule.revision);
      }}
    >
      <div class="body stack">
        <What schedule={schedule} kind={kind} />
        {kind === 'move' && <WhenFields value={values} onChange={change} />}
        {isAsked && kind === 'move' && at !== null && !isMoved && (
          <Note tone="conflict">It is at this time already.</Note>
        )}
        <ReasonField
          {...{ value: reason, onText: (reason: string) => change({ reason }) }}
          problem={isAsked && isSilent ? 'Why is it right all the same?' : null}
        />
        {sending.error !== null && isStale(sending.error) ? (
          <Stale
            error={sending.error}
            onKeepMine={() => void send(currentRevision(sending.error) ?? schedule.revision)}
            onTakeTheirs={() => {
              sending.forget();
              void onTakeTheirs();
            }}
            onCancel={onClose}
          />
        ) : (
          <Refused error={sending.error} />
        )}
      </div>
      <div class="foot">
        <button type="button" class="btn" onClick={onClose}>
          {word.back}
        </button>
        {request !== null && <CopyButton text={curlOf(request)}>Copy as curl</CopyButton>}
        <button
          type="submit"
          class={kind === 'cancel' ? 'btn danger primary push' : 'btn primary push'}
          aria-disabled={sending.isBusy}
        >
          {kind === 'move' && !isMoved ? 'Move to another time' : name}
        </button>
      </div>
    </form>
  );
}

/** The schedule, and the flag as it is now. */
function What({ schedule, kind }: { readonly schedule: ReadAction; readonly kind: ActionKind }) {
  const { flag, updates, scheduledAt, status, errorMessage, attempts, plan } = schedule;
  const isNow = kind === 'retry' || kind === 'resume';
  const differences = differencesIn(schedule.suspendedDetails);
  return (
    <dl class="dl">
      <dt>Flag</dt>
      <dd>
        <strong>{flag?.flagKey}</strong>{' '}
        {flag !== null && <EnvironmentTag name={flag.environment} />}
      </dd>
      <dt>Change</dt>
      <dd>
        {isNow && flag !== null ? (
          <InlineDiff before={flag} after={applyUpdates(flag, updates)} />
        ) : (
          updatesText(updates)
        )}
        {!['pending', 'failed', 'suspended'].includes(status) && ` (${status})`}
      </dd>
      {plan !== null && (
        <>
          <dt>Plan</dt>
          <dd>
            {plan.title}{' '}
            <span class="muted">all that it changes at that instant goes on with it</span>
          </dd>
        </>
      )}
      {differences.map(({ field, expected, found }) => (
        <Fragment key={field}>
          <dt>Expected</dt>
          <dd>
            {field} <strong>{expected}</strong>, found <strong>{found}</strong>
          </dd>
        </Fragment>
      ))}
      <dt>{isNow ? 'Was due' : 'At'}</dt>
      <dd>
        <FullTime at={scheduledAt} />
        <br />
        <span class="small muted">
          <InZones at={scheduledAt} />
        </span>
      </dd>
      {kind === 'retry' && errorMessage !== null && (
        <>
          <dt>Failed</dt>
          <dd>
            {errorMessage} <span class="muted">after {attempts} tries</span>
          </dd>
        </>
      )}
    </dl>
  );
}
