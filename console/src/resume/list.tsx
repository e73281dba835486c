import { useId } from 'preact/hooks';
import { now } from '../data/clock.ts';
import { applyUpdates, InlineDiff, updatesText } from '../parts/flag_state.tsx';
import { MarkIcon, StatusTag } from '../parts/marks.tsx';
import { link } from '../router.ts';
import { zone } from '../settings.ts';
import { isStopped } from '../stop/stops.ts';
import { durationText, shortText } from '../time/format.ts';
import { flagPath } from '../timeline/lane.tsx';
import { askedBy, changeText, type DueItem, type Missed } from './model.ts';

interface ItemProps {
  readonly environment: string;
  readonly item: DueItem;
  readonly decision: Missed;
  /** It came due since the list was looked at. */
  readonly isNew: boolean;
  readonly onDecide: (decision: Missed) => void;
}

/** One change that came due, and what becomes of it. */
export function Item({ environment, item, decision, isNew, onDecide }: ItemProps) {
  const { at, plan, schedules, elsewhere, isAlone, isConflict } = item;
  const [{ flag, updates, reason }] = schedules;
  const by = askedBy(item);
  const flagKey = flag?.flagKey ?? '';
  const stopped = elsewhere.filter(isStopped);
  return (
    <li class={isNew ? 'sel' : ''}>
      <span class="when">
        <strong>
          <time dateTime={new Date(at).toISOString()}>{shortText(at, zone.value, now.value)}</time>
        </strong>
        <br />
        <span class="small muted">{durationText(now.value - at)} late</span>
      </span>
      <MarkIcon status={isConflict ? 'conflict' : 'suspended'} />
      <div class="what stack tight">
        <h3>
          {plan === null ? (
            <>
              <a href={flagPath({ environment, flagKey })}>{flagKey}</a>:{' '}
              {flag === null || !isAlone ? (
                updatesText(updates)
              ) : (
                <InlineDiff before={flag} after={applyUpdates(flag, updates)} />
              )}
            </>
          ) : (
            <>
              <a href={link(`/plans/${plan.id}`)}>{plan.title}</a>:{' '}
              {schedules.length === 1 ? '1 flag' : `${schedules.length} flags`}
            </>
          )}{' '}
          {isNew && <StatusTag status="pending">New</StatusTag>}
        </h3>
        {plan !== null && <span>{changeText(item)}</span>}
        {elsewhere.length > 0 && (
          <span class="small muted">It changes {elsewhere.join(' and ')} at the same instant.</span>
        )}
        {isConflict && (
          <span class="small conflict">
            Another change of this list is for the same instant: of two that are applied chance
            decides. It stays as it is unless you choose.
          </span>
        )}
        {(by !== '' || reason !== null) && (
          <span class="small muted">
            {[by === '' ? '' : `Asked by ${by}`, reason === null ? '' : `“${reason}”`]
              .filter(Boolean)
              .join(', ')}
          </span>
        )}
        {stopped.length > 0 ? (
          <span>It waits on: {stopped.join(' and ')} is paused too.</span>
        ) : (
          <Decision
            name={plan === null ? flagKey : plan.title}
            value={decision}
            onChoose={onDecide}
          />
        )}
      </div>
    </li>
  );
}

interface DecisionProps {
  readonly name: string;
  readonly value: Missed;
  readonly onChoose: (decision: Missed) => void;
}

function Decision({ name, value, onChoose }: DecisionProps) {
  const id = useId();
  return (
    <span class="seg" role="radiogroup" aria-label={name}>
      {(['apply', 'skip'] as const).map((choice) => (
        <label key={choice}>
          <input
            {...{ type: 'radio', class: 'vh', name: id, value: choice }}
            checked={choice === value}
            onChange={() => onChoose(choice)}
          />
          {choice === 'apply' ? 'Apply' : 'Skip'}
        </label>
      ))}
    </span>
  );
}
