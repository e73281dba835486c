import { useEffect, useRef, useState } from 'preact/hooks';
import { environments, isAdmin, readsTrail } from '../data/person.ts';
import { useResource } from '../data/resource.ts';
import { useKeys } from '../keys.ts';
import { EnvironmentTag } from '../parts/environment.tsx';
import { Failure, Note, Waiting } from '../parts/note.tsx';
import { link, match, param, setParams } from '../router.ts';
import { ScheduleForm } from '../schedules/form.tsx';
import { DayChart } from './day_chart.tsx';
import { Description } from './description.tsx';
import { FLAG } from './documents.ts';
import type { Foreseen } from './entries.ts';
import type { ShownFlag } from './day_chart.tsx';
import { Elsewhere, Tabs, WhoCan } from './elsewhere.tsx';
import { Hero } from './hero.tsx';
import { History } from './history.tsx';
import { useForeseen } from './use_foreseen.ts';
import { MOST_EVENTS, useHistory } from './use_history.ts';

const NONE = [] as const;

/** One flag: its state, its day, its history, and the form that schedules a change. */
export function FlagPage() {
  const { environment = '', flagKey = '' } = match('/flags/:environment/:flagKey') ?? {};
  return <Flag key={`${environment} ${flagKey}`} {...{ environment, flagKey }} />;
}

interface Props {
  readonly environment: string;
  readonly flagKey: string;
}

function Flag({ environment, flagKey }: Props) {
  const isKnown = environments.value.includes(environment);
  const found = useResource(
    FLAG,
    isKnown ? { environment, flagKey, asks: readsTrail.value } : null,
  );
  const form = useRef<HTMLElement>(null);
  useKeys({
    n: () => form.current?.querySelector<HTMLElement>('input')?.focus(),
    Escape: () => setParams({ sel: null }),
  });
  const flag = found.data.value?.featureFlagByEnvironmentAndFlagKey ?? null;
  const foreseen = useForeseen(environment, flagKey, flag?.pending.nodes ?? NONE);
  const isMissing = !isKnown || (found.data.value !== null && flag === null);
  return (
    <>
      <div class="head">
        <h1>{flagKey}</h1>
        <EnvironmentTag name={environment} />
        {flag !== null && <Description flag={flag} />}
        <span class="grow deskonly" />
        <Tabs environment={environment} flagKey={flagKey} />
      </div>
      <Failure error={found.error} refetch={found.refetch} />
      {isMissing && (
        <Note tone="quiet">
          {isKnown
            ? `There is no flag of this key in ${environment}.`
            : `There is no environment ${environment} for you.`}{' '}
          <a href={link('/flags')}>All flags</a>
        </Note>
      )}
      {flag === null ? (
        !isMissing && <Waiting rows={8} />
      ) : (
        <>
          <section class="card mini-flag" aria-label="State">
            <Hero flag={flag} />
            <DayChart {...{ flag, foreseen }} />
          </section>
          <div class="cols">
            <FoundHistory
              {...{ flag, foreseen, failed: flag.failed.nodes }}
              unlisted={flag.pending.totalCount - flag.pending.nodes.length}
            />
            <aside class="stack" ref={form} aria-label={isAdmin.value ? 'New change' : 'More'}>
              {isAdmin.value && (
                <section class="card" id="new-change" aria-labelledby="new-change-title">
                  <header>
                    <h2 id="new-change-title">Schedule a change</h2>
                    <EnvironmentTag name={environment} />
                  </header>
                  <ScheduleForm {...{ environment, flagKey }} />
                </section>
              )}
              <Elsewhere {...{ environment, flagKey }} />
              <WhoCan />
            </aside>
          </div>
        </>
      )}
    </>
  );
}

const FIRST_EVENTS = 30;

function FoundHistory({
  flag,
  foreseen,
  failed,
  unlisted,
}: {
  readonly flag: ShownFlag;
  readonly foreseen: Foreseen | null;
  readonly failed: readonly { readonly id: string }[];
  /** Pending schedules beyond those that the server lists. */
  readonly unlisted: number;
}) {
  const [count, setCount] = useState(FIRST_EVENTS);
  const { ahead, past, resource, hasMore } = useHistory(flag, foreseen, count);
  // A mark of the chart was chosen: its line comes into view.
  const chosen = param('sel');
  useEffect(() => {
    document.querySelector('[data-chosen]')?.scrollIntoView({ block: 'nearest' });
  }, [chosen]);
  return (
    <div class="stack">
      <Failure isPart error={resource.error} refetch={resource.refetch} />
      <History
        {...{ flag, ahead, past, unlisted, hasDecisions: readsTrail.value }}
        failed={new Set(failed.map(({ id }) => id))}
        more={hasMore ? () => setCount(MOST_EVENTS) : null}
      >
        {readsTrail.value && (
          <p class="more">
            <a href={link('/trail', { q: `flag:${flag.flagKey} env:${flag.environment}` })}>
              All of it in the trail
            </a>
          </p>
        )}
        {isAdmin.value && (
          <div class="foot mobonly sticky">
            <a class="btn primary" href="#new-change">
              Schedule a change
            </a>
          </div>
        )}
      </History>
    </div>
  );
}
