import { useMemo, useState } from 'preact/hooks';
import { now } from '../data/clock.ts';
import { useDraft } from '../data/draft.ts';
import { environments, shortName } from '../data/person.ts';
import type { ApiError } from '../data/request.ts';
import { useResource } from '../data/resource.ts';
import { EnvironmentTag } from '../parts/environment.tsx';
import { Failure, Note, Waiting } from '../parts/note.tsx';
import { Refused } from '../parts/stale.tsx';
import { Time } from '../parts/time.tsx';
import { link, match } from '../router.ts';
import { zone } from '../settings.ts';
import { shortText } from '../time/format.ts';
import { DUE, type DueAnswer } from './documents.ts';
import { ResumeForm } from './form.tsx';
import { Item } from './list.tsx';
import { decisionOf, dueItems, isMissed, laterText, type Decisions, type Missed } from './model.ts';

/** Ends the pause of an environment, once a person has said what becomes of what came due. */
export function ResumePage() {
  const { environment = '' } = match('/resume/:environment') ?? {};
  return <Resume key={environment} environment={environment} />;
}

function Resume({ environment }: { readonly environment: string }) {
  const isKnown = environments.value.includes(environment);
  const found = useResource(DUE, isKnown ? { environment } : null);
  const [refusal, setRefusal] = useState<ApiError | null>(null);
  const answer = found.data.value;
  const [stop] = answer?.environments?.nodes ?? [];
  const isPaused = (stop?.stoppedAt ?? null) !== null;
  return (
    <>
      <div class="head">
        <h1>Resume {environment}</h1>
        <EnvironmentTag name={environment} />
        {isPaused && (
          <span class="muted">
            Choose what happens with each change that came due. Nothing happens before the last
            button.
          </span>
        )}
      </div>
      <div class="stack">
        <Failure error={found.error} refetch={found.refetch} />
        <Refused error={refusal} />
        {!isKnown && <Note tone="quiet">There is no environment {environment} for you.</Note>}
        {isKnown && answer === null && found.error.value === null && <Waiting />}
        {answer !== null && !isPaused && (
          <Running environment={environment} last={stop?.lastResume ?? null} />
        )}
      </div>
      {answer !== null && isPaused && (
        <Paused {...{ environment, answer }} onRefused={setRefusal} />
      )}
    </>
  );
}

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null;

/** It goes on: since when, and by whom. */
function Running({ environment, last }: { readonly environment: string; readonly last: unknown }) {
  const { at, by, reason, applied, skipped } = isRecord(last) ? last : {};
  return (
    <Note tone={typeof at === 'string' ? 'applied' : 'quiet'}>
      <strong>{environment} isn’t paused.</strong>{' '}
      {typeof at === 'string' && (
        <>
          {shortName(typeof by === 'string' ? by : '') || 'Someone'} resumed it at <Time at={at} />
          {typeof reason === 'string' && `: “${reason}”`}. Changes that had come due:{' '}
          {Number(applied ?? 0)} applied, {Number(skipped ?? 0)} skipped.{' '}
        </>
      )}
      <a href={link('/timeline')}>Timeline</a>
    </Note>
  );
}

const NOTHING_CHOSEN: Readonly<{ all: Missed; others: Decisions['others']; reason: string }> = {
  ...{ all: 'apply', others: {}, reason: '' },
};

interface PausedProps {
  readonly environment: string;
  readonly answer: DueAnswer;
  readonly onRefused: (error: ApiError) => void;
}

/** Of each list so many are shown. */
const MOST = 100;

function Paused({ environment, answer, onRefused }: PausedProps) {
  const { values, change } = useDraft('resume', NOTHING_CHOSEN);
  const suspended = answer.suspended?.nodes ?? [];
  const pending = answer.pending?.nodes ?? [];
  // What is due is said by the second, and changes some times a day.
  const due = pending.filter((one) => isMissed(one, now.value)).length;
  const items = useMemo(
    () => dueItems(environment, [...suspended, ...pending], now.value),
    [answer, due],
  );
  const ids = items.map(({ id }) => id);
  const [seen, setSeen] = useState<ReadonlySet<string>>(() => new Set(ids));
  const unseen = items.filter(({ id }) => !seen.has(id));
  const decideAll = (all: Missed): void => change({ all, others: {} });
  const others = suspended.filter((one) => one.suspendedFor !== 'stop').length;
  const isCut = (answer.suspended?.totalCount ?? 0) > MOST || due === MOST;
  const later = laterText(pending.slice(due), (answer.pending?.totalCount ?? 0) - due, (at) =>
    shortText(at, zone.value, now.value),
  );
  return (
    <div class="cols">
      <section class="card" aria-labelledby="due">
        <header class="between">
          <h2 id="due">
            {items.length === 0 ? 'Nothing' : items.length}
            {isCut ? ' and more' : ''} came due while paused
          </h2>
          {items.length > 0 && (
            <span class="row" role="group" aria-label="All">
              <span class="muted">All:</span>
              <button type="button" class="link" onClick={() => decideAll('apply')}>
                apply
              </button>
              <button type="button" class="link" onClick={() => decideAll('skip')}>
                skip
              </button>
            </span>
          )}
        </header>
        <ol class="hist">
          {items.map((item) => (
            <Item
              key={item.id}
              {...{ environment, item, decision: decisionOf(item, values) }}
              isNew={unseen.includes(item)}
              onDecide={(decision) => {
                setSeen(new Set([...seen, item.id]));
                change({ others: { ...values.others, [item.id]: decision } });
              }}
            />
          ))}
        </ol>
        {isCut && (
          <p class="more">
            Only the first {MOST} are listed: what you choose for all holds for the others.
          </p>
        )}
        {others > 0 && (
          <p class="more">
            <span>
              {others === 1 ? '1 change is' : `${others} changes are`} suspended for a conflict, and
              will wait on: see <a href={link('/tonight')}>Tonight</a>.
            </span>
          </p>
        )}
        {later !== '' && <p class="more muted">Not due yet, goes on as planned: {later}</p>}
      </section>
      <ResumeForm
        {...{ environment, items, unseen, isCut, decisions: values, reason: values.reason }}
        onReason={(reason) => change({ reason })}
        onSeen={() => setSeen(new Set(ids))}
        onRefused={onRefused}
      />
    </div>
  );
}
