import { isAdmin, readsTrail } from '../data/person.ts';
import { useResource } from '../data/resource.ts';
import { EnvironmentTag } from '../parts/environment.tsx';
import { Failure, Note, Waiting } from '../parts/note.tsx';
import { ClockTime } from '../parts/time.tsx';
import { link, match } from '../router.ts';
import { restUpdates } from '../schedules/change.ts';
import { PLAN, PLAN_CHANGES, type Plan, type PlanRow } from './documents.ts';
import { diffsOfEvents, useDryRun, type Tried } from './dry_run.ts';
import { Events } from './events.tsx';
import { Hero } from './hero.tsx';
import { linesOfPlan } from './lines.tsx';
import { changesOf, countText, differences, isOpen } from './model.ts';
import { dryRunRequest, type Asked } from './requests.ts';
import { RevertCard } from './revert_card.tsx';
import { WhatTable } from './what_table.tsx';

const IS_ID = /^[0-9a-f-]{36}$/i;

/** One plan: its instant, what it does, what stands against it, how to undo it, and what the trail has of it. */
export function PlanPage() {
  const { id = '' } = match('/plans/:id') ?? {};
  const found = useResource(PLAN, IS_ID.test(id) ? { id } : null);
  const plan = found.data.value?.plan ?? null;
  const isMissing = !IS_ID.test(id) || (found.data.value !== null && plan === null);
  return (
    <>
      <div class="head">
        <h1>{plan?.title ?? 'Plan'}</h1>
        {plan?.environments.map((name) => (
          <EnvironmentTag key={name} name={name} />
        ))}
        <span class="grow deskonly" />
        {isAdmin.value && (
          <a class="btn push" href={link('/plans/new')}>
            New plan
          </a>
        )}
      </div>
      <Failure error={found.error} refetch={found.refetch} />
      {isMissing && (
        <Note tone="quiet">
          No plan has this id, or it changes flags of environments that aren’t yours.{' '}
          <a href={link('/plans')}>All plans</a>
        </Note>
      )}
      {plan !== null ? (
        <Found key={plan.id} plan={plan} />
      ) : (
        !isMissing && found.error.value === null && <Waiting rows={8} />
      )}
    </>
  );
}

/** The plan as a request of its own: what it would do if it were applied now. */
export const askedOf = (plan: Plan): Asked => ({
  ...{ title: plan.title, at: null, reason: '' },
  changes: changesOf(plan).map(({ flagKey, environment, updates, expects, onConflict }) => ({
    ...{ flag_key: flagKey, environment, updates: restUpdates(updates) },
    ...(expects === null ? {} : { expects: restUpdates(expects) }),
    on_conflict: onConflict,
  })),
});

function Found({ plan }: { readonly plan: Plan }) {
  const rows: readonly PlanRow[] = plan.schedules.nodes;
  const isTried = isAdmin.value && isOpen(plan) && plan.suspendedFor !== 'conflict';
  const { tried, retry } = useDryRun(isTried ? dryRunRequest(askedOf(plan)) : null);
  const changed = useResource(PLAN_CHANGES, plan.appliedCount > 0 ? { id: plan.id } : null);
  const done = diffsOfEvents(changed.data.value?.auditEvents?.nodes ?? []);
  const count = changesOf(plan).length;
  return (
    <>
      <Hero plan={plan} rows={rows} />
      <div class="cols tonight">
        <div class="stack">
          <section class="card" aria-labelledby="what">
            <header class="between">
              <h2 id="what">{titleOf(plan)}</h2>
              <span class="small muted">
                {tried !== null && tried.run !== null ? (
                  <>
                    Tried at <ClockTime at={tried.at} /> without changing anything
                  </>
                ) : (
                  countText(count, 'flag')
                )}
              </span>
            </header>
            <Doubt tried={tried} />
            <WhatTable
              label={titleOf(plan)}
              isShort={plan.environments.length === 1}
              lines={linesOfPlan(plan, rows, tried, done)}
            />
            <Below plan={plan} retry={isTried ? retry : null} />
          </section>
          {readsTrail.value && <Events id={plan.id} />}
        </div>
        <RevertCard plan={plan} done={done} />
      </div>
    </>
  );
}

/** Where one looks next. */
function Below({ plan, retry }: { readonly plan: Plan; readonly retry: (() => void) | null }) {
  const { status, suspendedFor, nextAt } = plan;
  const at = status === 'active' && suspendedFor === null && nextAt !== null ? nextAt : null;
  if (at === null && retry === null) return null;
  return (
    <p class="more">
      {at !== null && (
        <a href={link('/state', { at: new Date(Date.parse(at) + 1).toISOString() })}>
          State right after it
        </a>
      )}
      {retry !== null && (
        <button type="button" class="link" onClick={retry}>
          Try again
        </button>
      )}
    </p>
  );
}

/** Why the plan would change nothing if it came now. */
function Doubt({ tried }: { readonly tried: Tried | null }) {
  if (tried === null) return null;
  const { run, error } = tried;
  const isIdle = run?.changes.every(({ before, after }) => differences(before, after).length === 0);
  if (error === null && isIdle !== true) return null;
  return (
    <div class="inset">
      <Note tone="conflict">
        {error === null ? (
          'Tried now, it changes nothing: its flags are not as it expects, or are so already.'
        ) : (
          <>
            Tried now, it doesn’t work: {error.message}{' '}
            <span class="small muted">{error.code}</span>
          </>
        )}
      </Note>
    </div>
  );
}

const titleOf = (plan: Plan): string =>
  plan.appliedCount > 0
    ? 'What it did'
    : isOpen(plan)
      ? 'What it will do'
      : 'What it would have done';
