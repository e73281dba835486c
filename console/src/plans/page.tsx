import { useEffect } from 'preact/hooks';
import { announce } from '../announce.ts';
import { now } from '../data/clock.ts';
import { environment, isAdmin } from '../data/person.ts';
import { refetchEach, useFirstError, useResource } from '../data/resource.ts';
import { useKeys } from '../keys.ts';
import { Failure, Waiting } from '../parts/note.tsx';
import { link, navigate, param, setParams, withParams } from '../router.ts';
import { useLater } from '../parts/use_later.ts';
import { PLANS } from './documents.ts';
import { countText } from './model.ts';
import { PlanTable } from './table.tsx';

const SHOWN = [
  ['', 'Open and ended'],
  ['active', 'Next'],
  ['paused', 'Paused'],
  ['completed', 'Applied'],
  ['cancelled', 'Cancelled'],
] as const;

/** All plans: what is open by when it comes, then what has ended. */
export function PlansPage() {
  const status = param('status');
  const flagKey = useLater(param('flag').trim());
  const name = environment.value === 'all' ? '' : environment.value;
  const narrowed = {
    ...(name === '' ? {} : { environment: name }),
    ...(flagKey === '' ? {} : { flagKey }),
  };
  const list = (one: string, order: 'NEXT_AT_ASC' | 'CREATED_AT_DESC', open: boolean) =>
    useResource(
      PLANS,
      status === '' || status === one ? { status: one, order: [order], open, ...narrowed } : null,
    );
  const paused = list('paused', 'NEXT_AT_ASC', true);
  const active = list('active', 'NEXT_AT_ASC', true);
  const completed = list('completed', 'CREATED_AT_DESC', false);
  const cancelled = list('cancelled', 'CREATED_AT_DESC', false);
  const found = [paused, active, completed, cancelled];
  const error = useFirstError(found);
  const nodesOf = (one: (typeof found)[number]) => one.data.value?.plans?.nodes ?? [];
  const open = [...nodesOf(paused), ...nodesOf(active)];
  const ended = [...nodesOf(completed), ...nodesOf(cancelled)].toSorted(
    (a, b) => Date.parse(b.endedAt ?? '') - Date.parse(a.endedAt ?? ''),
  );
  const isReady = found.every(({ data, loading }) => data.value !== null || !loading.value);
  const isCut = found.some(({ data }) => data.value?.plans?.pageInfo.hasNextPage === true);
  const isNarrow = status !== '' || flagKey !== '';
  useKeys(isAdmin.value ? { n: () => navigate(link('/plans/new')) } : {});
  useEffect(() => {
    if (isReady && isNarrow) announce(countText(open.length + ended.length, 'plan'));
  }, [isReady, status, flagKey]);
  return (
    <>
      <div class="head">
        <h1>Plans</h1>
        <span class="muted">
          {isReady && error.value === null && `${countText(open.length, 'plan')} open`}
        </span>
        <span class="grow deskonly" />
        {isAdmin.value && (
          <a class="btn primary push" href={link('/plans/new')}>
            New plan
          </a>
        )}
      </div>
      <Failure error={error} refetch={() => refetchEach(found)} />
      <section class="card" aria-label="Plans">
        <Filter status={status} />
        {open.length + ended.length > 0 ? (
          <PlanTable {...{ open, ended, now: now.value }} />
        ) : isReady && error.value === null ? (
          <p class="more">
            {isNarrow ? (
              <>
                No plan matches. <a href={withParams({ status: null, flag: null })}>Show all</a>
              </>
            ) : (
              <>
                A plan changes several flags at one instant, all or none, and can be tried first and
                taken back. There is none yet{name === '' ? '' : ` in ${name}`}.
              </>
            )}
          </p>
        ) : (
          error.value === null && <Waiting rows={6} />
        )}
        {isCut && <p class="more muted">Only the first 50 of each status are shown: narrow it.</p>}
      </section>
    </>
  );
}

const Filter = ({ status }: { readonly status: string }) => (
  <div class="bar">
    <input
      {...{ class: 'input', type: 'search', value: param('flag'), autoCapitalize: 'off' }}
      {...{ 'aria-label': 'Plans that change a flag', placeholder: 'Key of a flag' }}
      onInput={({ currentTarget }) => setParams({ flag: currentTarget.value })}
    />
    <select
      {...{ class: 'input fit', 'aria-label': 'Status', value: status }}
      onChange={({ currentTarget }) => setParams({ status: currentTarget.value })}
    >
      {SHOWN.map(([value, text]) => (
        <option key={value} value={value}>
          {text}
        </option>
      ))}
    </select>
  </div>
);
