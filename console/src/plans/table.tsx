import { shortName } from '../data/person.ts';
import { EnvironmentTag } from '../parts/environment.tsx';
import { updatesText } from '../parts/flag_state.tsx';
import { StatusTag } from '../parts/marks.tsx';
import { Time } from '../parts/time.tsx';
import { link } from '../router.ts';
import { relativeText } from '../time/format.ts';
import type { ListedPlan } from './documents.ts';
import { changesOf, countText, stateOf } from './model.ts';

interface Props {
  readonly open: readonly ListedPlan[];
  readonly ended: readonly ListedPlan[];
  readonly now: number;
}

const NAMES = ['Plan', 'When', 'What', 'By'];

/** What is open, then what has ended. A row opens the plan. */
export const PlanTable = ({ open, ended, now }: Props) => (
  <table class="rows pl list" role="table" aria-label="Plans">
    <thead role="rowgroup">
      <tr role="row">
        {NAMES.map((name) => (
          <th key={name} role="columnheader" scope="col">
            {name}
          </th>
        ))}
      </tr>
    </thead>
    <tbody role="rowgroup">
      {open.length > 0 && <Group text={`${open.length} open`} />}
      {open.map((plan) => (
        <Row key={plan.id} plan={plan} now={now} />
      ))}
      {ended.length > 0 && <Group text={`${ended.length} ended`} />}
      {ended.map((plan) => (
        <Row key={plan.id} plan={plan} now={now} />
      ))}
    </tbody>
  </table>
);

const Group = ({ text }: { readonly text: string }) => (
  <tr role="row" class="group">
    <th role="rowheader" scope="colgroup" colSpan={NAMES.length}>
      {text}
    </th>
  </tr>
);

function Row({ plan, now }: { readonly plan: ListedPlan; readonly now: number }) {
  const state = stateOf(plan, now);
  const at = plan.nextAt ?? plan.endedAt;
  const by = shortName(plan.createdBy);
  const conflicts = plan.conflicts?.length ?? 0;
  const needsSomeone = state.status === 'failed' || state.status === 'conflict';
  const tone = state.status === 'failed' ? 'bad' : needsSomeone || conflicts > 0 ? 'bad warn' : '';
  return (
    <tr role="row" class={tone}>
      <th role="rowheader" scope="row">
        <a href={link(`/plans/${plan.id}`)} data-row>
          {plan.title}
        </a>
      </th>
      <td role="cell">
        <StatusTag status={state.status}>{state.word}</StatusTag>{' '}
        {at !== null && (
          <>
            <Time at={at} />{' '}
            {plan.nextAt !== null && (
              <span class="small muted deskonly">{relativeText(Date.parse(at), now)}</span>
            )}
          </>
        )}
      </td>
      <td role="cell">
        <What plan={plan} />
        {conflicts > 0 && plan.suspendedFor === null && (
          <>
            {' '}
            <StatusTag status="conflict">{countText(conflicts, 'conflict')}</StatusTag>
          </>
        )}
      </td>
      <td role="cell">{by === '' ? <span class="muted">unknown</span> : by}</td>
    </tr>
  );
}

/** Flags that a row names; how many more there are is said. */
const NAMED = 2;

function What({ plan }: { readonly plan: ListedPlan }) {
  const changes = changesOf(plan);
  const more = changes.length - NAMED;
  return (
    <>
      {plan.environments.map((name) => (
        <span key={name}>
          <EnvironmentTag name={name} />{' '}
        </span>
      ))}
      {changes
        .slice(0, NAMED)
        .map(({ flagKey, updates }) => `${flagKey} ${updatesText(updates)}`)
        .join(', ')}
      {more > 0 && ` and ${more} more`}
    </>
  );
}
