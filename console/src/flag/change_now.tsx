import { useState } from 'preact/hooks';
import { announce } from '../announce.ts';
import { dropDraft, useDraft } from '../data/draft.ts';
import { useReading } from '../data/reading.ts';
import { sendRest } from '../data/rest.ts';
import { currentRevision, isStale, useSending } from '../data/sending.ts';
import { fieldProblems, problemAt } from '../data/field_problems.ts';
import { curlOf } from '../parts/command.tsx';
import { CopyButton } from '../parts/copy.tsx';
import { Dialog, useFormFocus } from '../parts/dialog.tsx';
import { Field, MOST_REASON, ReasonField } from '../parts/field.tsx';
import { applyUpdates, Diff, type FlagState } from '../parts/flag_state.tsx';
import { Failure, Note, Waiting } from '../parts/note.tsx';
import { Refused, Stale } from '../parts/stale.tsx';
import { changeName, restUpdates, updatesOf, type ChangeKind } from '../schedules/change.ts';
import { ChangeFields } from '../schedules/change_fields.tsx';
import { FLAG_AHEAD } from '../schedules/documents.ts';
import { nameOf, type AskedPending } from '../schedules/pending_note.tsx';
import { focusProblem } from '../schedules/focus_problem.ts';
import { changeRequest } from '../schedules/requests.ts';

interface Props {
  readonly environment: string;
  readonly flagKey: string;
  readonly kind: ChangeKind;
  readonly onClose: () => void;
}

/** Asks before a flag is changed at once: against the flag as it is read at that instant. */
export function ChangeNow({ environment, flagKey, kind, onClose }: Props) {
  const found = useReading(FLAG_AHEAD, { environment, flagKey });
  const flag = found.data.value?.featureFlagByEnvironmentAndFlagKey ?? null;
  // Not of the other button: what one asked to turn off is not another form's share.
  const draft = `now ${kind}`;
  const leave = (): void => {
    dropDraft(draft);
    onClose();
  };
  return (
    <Dialog title={`Change ${flagKey} now`} onClose={leave}>
      {flag !== null ? (
        <NowForm
          key={flag.revision}
          {...{ flag, pending: flag.schedules.nodes, kind, draft, onClose: leave }}
          onTakeTheirs={() => {
            dropDraft(draft);
            return found.read();
          }}
        />
      ) : (
        <div class="body">
          <Failure error={found.error} refetch={found.read} />
          {found.data.value === null ? (
            <Waiting rows={3} />
          ) : (
            <Note tone="quiet">There is no such flag any more.</Note>
          )}
        </div>
      )}
    </Dialog>
  );
}

interface FormProps {
  readonly flag: FlagState & {
    readonly flagKey: string;
    readonly environment: string;
    readonly revision: number;
  };
  readonly pending: readonly AskedPending[];
  readonly kind: ChangeKind;
  /** The name by which its values outlast a sign-in. */
  readonly draft: string;
  readonly onClose: () => void;
  readonly onTakeTheirs: () => Promise<void>;
}

/** Pending changes that are named; how many more there are is said. */
const NAMED = 3;

function NowForm({ flag, pending, kind, draft, onClose, onTakeTheirs }: FormProps) {
  // The typed key isn't kept: it is meant for the moment.
  const { values: text, change } = useDraft(draft, { kind, share: '', turnsOn: true, reason: '' });
  const { reason } = text;
  const [typed, setTyped] = useState('');
  const [isAsked, setAsked] = useState(false);
  const sending = useSending();
  const form = useFormFocus();
  const updates = updatesOf(text, flag);
  const after = updates === null ? null : applyUpdates(flag, updates);
  const isSame =
    after?.enabled === flag.enabled && after.rolloutPercentage === flag.rolloutPercentage;
  const isProduction = flag.environment === 'production';
  const isTyped = !isProduction || typed.trim() === flag.flagKey;
  const problems = fieldProblems(sending.error);
  const isReady =
    updates !== null && !isSame && isTyped && Array.from(reason).length <= MOST_REASON;
  const request = updates === null ? null : changeRequest(flag, restUpdates(updates), reason);
  const send = async (revision: number): Promise<void> => {
    if (updates === null) return;
    const asked = changeRequest({ ...flag, revision }, restUpdates(updates), reason);
    if (!(await sending.send(() => sendRest(asked)))) return;
    announce(`${changeName(updates)}: done, ${flag.flagKey}`);
    onClose();
  };
  return (
    <form
      ref={form}
      noValidate
      onSubmit={(event) => {
        event.preventDefault();
        setAsked(true);
        if (isReady) void send(flag.revision);
        else focusProblem(event.currentTarget);
      }}
    >
      <div class="body stack">
        <ChangeFields
          {...{ value: text, isOff: !flag.enabled, problem: problemAt(problems, 'updates') }}
          onChange={change}
        />
        {after !== null && <Diff before={flag} after={after} />}
        {isSame && <Note tone="quiet">It is so already: nothing would change.</Note>}
        {isAsked && updates === null && <Note tone="conflict">Which share of users?</Note>}
        <PendingAfter pending={pending} />
        <ReasonField
          {...{
            value: reason,
            onText: (reason: string) => change({ reason }),
            problem: problemAt(problems, 'reason'),
          }}
        />
        {isProduction && (
          <Field
            label={
              <>
                Type <code>{flag.flagKey}</code>: this changes production at once
              </>
            }
            {...{ value: typed, onText: setTyped }}
            problem={isAsked && !isTyped ? 'That isn’t the flag’s key.' : null}
          />
        )}
        {sending.error !== null && isStale(sending.error) ? (
          <Stale
            error={sending.error}
            onKeepMine={() => void send(currentRevision(sending.error) ?? flag.revision)}
            onTakeTheirs={() => {
              sending.forget();
              void onTakeTheirs();
            }}
            onCancel={onClose}
          />
        ) : (
          problems.length === 0 && <Refused error={sending.error} />
        )}
      </div>
      <div class="foot">
        <button type="button" class="btn" onClick={onClose}>
          Leave it
        </button>
        {request !== null && <CopyButton text={curlOf(request)}>Copy as curl</CopyButton>}
        <button
          type="submit"
          class={text.kind === 'off' ? 'btn danger primary push' : 'btn primary push'}
          aria-disabled={sending.isBusy}
        >
          {changeName(updates)} now
        </button>
      </div>
    </form>
  );
}

/** What is pending comes all the same: it changes what is set now. */
function PendingAfter({ pending }: { readonly pending: readonly AskedPending[] }) {
  if (pending.length === 0) return null;
  const more = pending.length - NAMED;
  return (
    <Note tone="conflict">
      {pending.length === 1 ? 'A change is' : `${pending.length} changes are`} pending and will come
      all the same: {pending.slice(0, NAMED).map(nameOf).join('; ')}
      {more > 0 ? `; ${more} more` : ''}.
    </Note>
  );
}
