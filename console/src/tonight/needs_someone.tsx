import { isAdmin, shortName } from '../data/person.ts';
import { stateText, updatesText } from '../parts/flag_state.tsx';
import { ScheduleActions } from '../schedules/actions.tsx';
import { differencesIn, differenceText, suspendedWord } from '../schedules/guard.ts';
import { resumePath } from '../stop/banner.tsx';
import type { Failed, Suspended } from './documents.ts';
import { Entry } from './list.tsx';

type One = (Failed | Suspended) & { readonly environment: string };

interface NeedsProps {
  readonly failed: readonly (Failed & { readonly environment: string })[];
  readonly suspended: readonly (Suspended & { readonly environment: string })[];
  readonly isMany: boolean;
}

/** What failed, and what waits for a person: what a pause holds back is decided on one page for all of it. */
export function NeedsSomeone({ failed, suspended, isMany }: NeedsProps) {
  const single: readonly One[] = [
    ...failed,
    ...suspended.filter(({ suspendedFor }) => suspendedFor !== 'stop'),
  ];
  const held = Map.groupBy(
    suspended.filter(({ suspendedFor }) => suspendedFor === 'stop'),
    ({ environment }) => environment,
  );
  if (single.length + held.size === 0) return null;
  return (
    <section class="card" aria-labelledby="needs">
      <header class="between">
        <h2 id="needs">
          {single.length + held.size === 1
            ? '1 needs someone'
            : `${single.length + held.size} need someone`}
        </h2>
      </header>
      {[...held].map(([environment, list]) => (
        <p key={environment} class="more between row">
          <span>
            {list.length === 1 ? '1 change came due' : `${list.length} changes came due`} while{' '}
            {environment} was paused.
          </span>
          {isAdmin.value && (
            <a class="btn" href={resumePath(environment)}>
              Resume {environment}…
            </a>
          )}
        </p>
      ))}
      <ol class="hist">
        {single.map((one) => (
          <Waiting key={one.id} one={one} isMany={isMany} />
        ))}
      </ol>
    </section>
  );
}

/** What happened to it: `Failed after 5 tries: …`. */
function wordsOf(one: One): string {
  if (!('attempts' in one)) {
    const differences = differenceText(differencesIn(one.suspendedDetails));
    return `${suspendedWord(one.suspendedFor)}${differences === '' ? '' : `: ${differences}`}.`;
  }
  const tries = `${one.attempts} ${one.attempts === 1 ? 'try' : 'tries'}`;
  return `Failed after ${tries}${typeof one.errorMessage === 'string' ? `: ${one.errorMessage}` : ''}.`;
}

function Waiting({ one, isMany }: { readonly one: One; readonly isMany: boolean }) {
  const { flag, environment, updates, reason, scheduledAt, plan } = one;
  const status = 'attempts' in one ? 'failed' : 'suspended';
  const flagKey = flag?.flagKey ?? '';
  return (
    <Entry
      {...{ isMany, environment, flagKey, at: Date.parse(scheduledAt), status }}
      by={shortName(one.requestedBy ?? one.createdBy)}
      what={`${updatesText(updates)}, ${status}`}
    >
      <div class="row between choice">
        <div class="stack tight">
          <span>
            {wordsOf(one)}
            {flag !== null && ` It stays ${stateText(flag).toLowerCase()}.`}
          </span>
          {typeof reason === 'string' && <span class="small muted">{reason}</span>}
          {typeof plan?.title === 'string' && <span class="small muted">Part of {plan.title}</span>}
        </div>
        {isAdmin.value && (
          <div class="row">
            <ScheduleActions schedule={one} what={`${updatesText(updates)} of ${flagKey}`} />
          </div>
        )}
      </div>
    </Entry>
  );
}
