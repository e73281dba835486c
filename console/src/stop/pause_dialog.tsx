import { useEffect, useRef, useState } from 'preact/hooks';
import { announce } from '../announce.ts';
import { now } from '../data/clock.ts';
import { graphql } from '../data/documents.ts';
import { shownEnvironments } from '../data/person.ts';
import { type ApiError, errorOf, run } from '../data/request.ts';
import { refetchAll, useResources } from '../data/resource.ts';
import { useSending } from '../data/sending.ts';
import { Dialog } from '../parts/dialog.tsx';
import { MOST_REASON, ReasonField } from '../parts/field.tsx';
import { Icon } from '../parts/icons.tsx';
import { Note } from '../parts/note.tsx';
import { zone } from '../settings.ts';
import { shortText } from '../time/format.ts';
import { DAY } from '../time/zone.ts';
import { isStopped, learnStop, running } from './stops.ts';
import { andOf, reasonOf, waitingText } from './words.ts';

const STOP = graphql(`
  mutation StopEnvironment($name: String!, $reason: String!) {
    stopEnvironment(input: { name: $name, reason: $reason }) {
      environment {
        name
        stoppedAt
        stoppedBy
        stopReason
      }
    }
  }
`);

const COMING = graphql(`
  query Coming($environment: String!, $from: Datetime!, $to: Datetime!) {
    upcomingChanges(environment: $environment, from: $from, to: $to, first: 1000) {
      at
      flagKey
    }
  }
`);

export interface PauseDialogProps {
  readonly onClose: () => void;
}

/** What came of one environment that is still running, as far as the page knows. */
interface Refusal {
  readonly name: string;
  readonly error: ApiError;
}

/** Asks once, and needs nothing typed: stopping has to be fast. The outcome is what the server answers to it. */
export function PauseDialog({ onClose }: PauseDialogProps) {
  const names = running.value;
  const [left, setLeft] = useState<readonly string[]>(() =>
    names.filter((name) => !shownEnvironments.value.includes(name)),
  );
  const [reason, setReason] = useState('');
  const [refusals, setRefusals] = useState<readonly Refusal[]>([]);
  const sending = useSending();
  const button = useRef<HTMLButtonElement>(null);
  // One more press pauses: the field may stay empty.
  useEffect(() => button.current?.focus(), []);
  const chosen = names.filter((name) => !left.includes(name));
  const isLong = Array.from(reason.trim()).length > MOST_REASON;
  const pause = (): Promise<boolean> =>
    sending.send(async () => {
      const failed: Refusal[] = [];
      await Promise.all(
        chosen.map(async (name) => {
          try {
            const { stopEnvironment } = await run(STOP, { name, reason: reasonOf(reason) });
            learnStop(stopEnvironment?.environment);
          } catch (failure) {
            failed.push({ name, error: errorOf(failure) });
          }
        }),
      );
      setRefusals(failed);
      const done = chosen.filter((name) => !failed.some((one) => one.name === name));
      if (done.length > 0) announce(`${andOf(done)} ${done.length === 1 ? 'is' : 'are'} paused`);
      // Others may have been faster: which are paused, and what waits.
      void refetchAll();
      if (failed.length === 0) onClose();
    });
  return (
    <Dialog
      title={
        <>
          <Icon name="stop" /> Pause all{chosen.length > 0 && ` in ${andOf(chosen)}`}
        </>
      }
      onClose={onClose}
    >
      <form
        noValidate
        onSubmit={(event) => {
          event.preventDefault();
          if (chosen.length > 0 && !isLong) void pause();
        }}
      >
        <div class="body stack">
          <p>
            No schedule is applied until someone resumes.{' '}
            <strong>Flags stay as they are now.</strong>
          </p>
          {names.length > 1 && (
            <fieldset class="field">
              <legend class="lab">Pause</legend>
              {names.map((name) => (
                <label key={name} class="check">
                  <input
                    type="checkbox"
                    checked={!left.includes(name)}
                    onChange={({ currentTarget: { checked } }) =>
                      setLeft(checked ? left.filter((one) => one !== name) : [...left, name])
                    }
                  />
                  {name}
                </label>
              ))}
            </fieldset>
          )}
          <ul class="stack tight bullets">
            <Coming names={chosen} />
            <li>Changes that people make go on.</li>
            <li>Everyone sees a banner; admins and auditors see your name and why.</li>
          </ul>
          <ReasonField value={reason} onText={setReason} note="optional, in the trail" />
          {refusals.map(({ name, error }) => (
            <Note key={name} tone={isStopped(name) ? 'quiet' : 'failed'}>
              <strong>{name}</strong>:{' '}
              {error.code === 'offline'
                ? 'no answer came. It may be paused all the same: press again to be sure.'
                : error.message}{' '}
              <span class="small muted">{error.code}</span>
            </Note>
          ))}
        </div>
        <div class="foot">
          <button type="button" class="btn" onClick={onClose}>
            {refusals.length > 0 && chosen.length === 0 ? 'Close' : 'Keep running'}
          </button>
          <button
            {...{ ref: button, type: 'submit', class: 'btn danger primary push' }}
            aria-disabled={sending.isBusy || chosen.length === 0 || isLong}
          >
            {sending.isBusy ? 'Pausing…' : 'Pause all now'}
          </button>
        </div>
      </form>
    </Dialog>
  );
}

/** What would wait: it helps, and pausing doesn't need it. */
function Coming({ names }: { readonly names: readonly string[] }) {
  const [from] = useState(() => Math.floor(now.value / 60_000) * 60_000);
  const found = useResources(
    COMING,
    names.map((environment) => ({
      environment,
      from: new Date(from).toISOString(),
      to: new Date(from + DAY).toISOString(),
    })),
  ).map(({ data }) => data.value?.upcomingChanges ?? null);
  const changes = found.flatMap((answer) => answer ?? []);
  if (names.length === 0 || found.includes(null)) return null;
  return <li>{waitingText(changes, (at) => shortText(Date.parse(at), zone.value, now.value))}</li>;
}
