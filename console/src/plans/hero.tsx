import { now } from '../data/clock.ts';
import { shortName } from '../data/person.ts';
import { StatusTag } from '../parts/marks.tsx';
import { Note } from '../parts/note.tsx';
import { Time } from '../parts/time.tsx';
import { link } from '../router.ts';
import { zone } from '../settings.ts';
import { dateText, dayText, durationText, relativeText, timeText } from '../time/format.ts';
import { PlanActions } from './actions.tsx';
import type { Plan, PlanRow } from './documents.ts';
import { changesOf, countText, fieldsOf, revertsText, stateOf } from './model.ts';

interface Props {
  readonly plan: Plan;
  readonly rows: readonly PlanRow[];
}

/** The instant that matters: of what is next, of when it was applied, or of when it ended. */
export function instantOf(plan: Plan, rows: readonly PlanRow[]): number | null {
  const applied = rows.find(({ appliedAt }) => appliedAt !== null)?.appliedAt;
  const at = plan.nextAt ?? applied ?? plan.endedAt ?? plan.startsAt;
  return at === null ? null : Date.parse(at);
}

/** When, large, and in short what happens then, who asked for it and why; and what one can do about it. */
export function Hero({ plan, rows }: Props) {
  const state = stateOf(plan, now.value);
  const at = instantOf(plan, rows);
  return (
    <section class="card" aria-label={state.word}>
      <div class="body hero">
        <div class="stack tight">
          <StatusTag status={state.status}>{state.word}</StatusTag>
          {at !== null && <Instant at={at} isExact={plan.status === 'completed'} />}
        </div>
        <div class="stack tight">
          <Summary {...{ plan, rows, at }} />
          <Asked plan={plan} />
        </div>
        <div class="row">
          <PlanActions plan={plan} rows={rows} />
        </div>
      </div>
      <Blocked plan={plan} />
    </section>
  );
}

/** The time in the display zone, with its day, its zone, and UTC. */
function Instant({ at, isExact }: { readonly at: number; readonly isExact: boolean }) {
  const isMillis = isExact && at % 1_000 !== 0;
  const isOtherDay = dateText(at, 'UTC') !== dateText(at, zone.value);
  return (
    <>
      <time class="state" dateTime={new Date(at).toISOString()}>
        {timeText(at, zone.value, isMillis ? 'millisecond' : 'second')}
      </time>
      <span class="small muted">
        {dayText(at, zone.value, now.value)}, {zone.value}
        {zone.value !== 'UTC' &&
          ` · ${isOtherDay ? `${dayText(at, 'UTC', now.value)} ` : ''}${timeText(at, 'UTC', 'second')} UTC`}
      </span>
    </>
  );
}

function Summary({ plan, rows, at }: Props & { readonly at: number | null }) {
  const count = countText(changesOf(plan).length, 'flag');
  const verb = changesOf(plan).length === 1 ? 'changes' : 'change';
  if (at === null) return <span>{count}</span>;
  if (plan.status === 'completed') {
    const due = rows[0]?.scheduledAt;
    const late = plan.appliedCount > 0 && due !== undefined ? at - Date.parse(due) : null;
    return plan.appliedCount === 0 ? (
      <span>{count}, skipped: nothing was changed</span>
    ) : (
      <span>
        {count} changed, all in one transaction
        {late !== null && late >= 0 && <span class="muted">, {durationText(late)} late</span>}
      </span>
    );
  }
  if (plan.status === 'cancelled') return <span>{count}: nothing was changed</span>;
  if (plan.status === 'paused' || plan.suspendedFor !== null)
    return (
      <span>
        Was due <strong>{relativeText(at, now.value)}</strong>: nothing was changed yet
      </span>
    );
  return (
    <span>
      <strong>
        {at > now.value ? relativeText(at, now.value).replace(/^in/, 'In') : 'Due now'}
      </strong>
      : {count} {verb}, all or none
    </span>
  );
}

/** Who asked for it, when and why, and what exactly: the hash of its content. */
function Asked({ plan }: { readonly plan: Plan }) {
  const by = shortName(plan.createdBy);
  const reverts = fieldsOf(plan.reverts);
  return (
    <>
      <span>
        Asked{by === '' ? '' : ` by ${by}`} <Time at={plan.createdAt} />
        {plan.reason !== null && `, “${plan.reason}”`}
      </span>
      {reverts !== null && (
        <span>
          Takes back{' '}
          {typeof reverts.planId === 'string' ? (
            <a href={link(`/plans/${reverts.planId}`)}>a plan</a>
          ) : (
            revertsText(reverts, (text) => timeText(Date.parse(text), zone.value, 'second'))
          )}
        </span>
      )}
      <span class="small muted">
        Content <code title={plan.contentHash}>{plan.contentHash.slice(0, 8)}</code>
      </span>
    </>
  );
}

/** Why it doesn't go on, and what it takes. */
function Blocked({ plan }: { readonly plan: Plan }) {
  if (plan.status === 'paused')
    return (
      <div class="inset">
        <Note tone="failed">
          {plan.statusReason ?? 'It failed.'} Nothing of it was changed: try it again, edit it, or
          cancel it.
        </Note>
      </div>
    );
  if (plan.status === 'cancelled' && plan.statusReason !== null)
    return (
      <div class="inset">
        <Note tone="quiet">Cancelled: “{plan.statusReason}”</Note>
      </div>
    );
  if (plan.status !== 'active' || plan.suspendedFor === null) return null;
  return (
    <div class="inset">
      <Note tone={plan.suspendedFor === 'conflict' ? 'conflict' : 'pending'}>
        {plan.suspendedFor === 'conflict'
          ? 'A flag is not as this plan expects, so it waits for someone: resume it to set its flags all the same, edit it, or cancel it.'
          : `It came due while ${plan.environments.join(', ')} was stopped. It waits until the environment is resumed.`}
      </Note>
    </div>
  );
}
