import { useState } from 'preact/hooks';
import { now } from '../data/clock.ts';
import { isAdmin, shortName } from '../data/person.ts';
import { dottedState, Meter, updatesText, type FlagState } from '../parts/flag_state.tsx';
import { InZones, Time } from '../parts/time.tsx';
import { link } from '../router.ts';
import { inOrder } from '../schedules/effect.ts';
import { durationText, relativeText } from '../time/format.ts';
import type { ChangeKind } from '../schedules/change.ts';
import { ChangeNow } from './change_now.tsx';
import type { PendingOfFlag } from './entries.ts';

interface LastChange {
  readonly at: string;
  readonly by?: string | null;
  readonly scheduleId: string | null;
}

interface Props {
  readonly flag: FlagState & {
    readonly environment: string;
    readonly flagKey: string;
    readonly createdAt: string;
    readonly lastChange: LastChange | null;
    readonly pending: { readonly nodes: readonly PendingOfFlag[] };
    readonly suspended: { readonly nodes: readonly object[] };
  };
}

/** What the flag is now, since when, and what comes next and then. */
export function Hero({ flag }: Props) {
  const [asked, setAsked] = useState<ChangeKind | null>(null);
  const [next, then] = flag.pending.nodes.toSorted(inOrder);
  return (
    <div class="body hero">
      <div class="stack tight">
        <span class="small muted">Now</span>
        <strong class="state">{dottedState(flag)}</strong>
        <Meter state={flag} />
      </div>
      <div class="stack tight">
        <Since flag={flag} />
        {next === undefined ? (
          <span class="muted">Nothing is scheduled.</span>
        ) : (
          <span>
            Next{' '}
            <strong>
              {updatesText(next.updates)} at <Time at={next.scheduledAt} precision="second" />
            </strong>{' '}
            <span class="muted">
              <InZones at={next.scheduledAt} /> ·{' '}
              {relativeText(Date.parse(next.scheduledAt), now.value)}
            </span>
            {next.nextAttemptAt !== null && (
              <strong class="conflict">
                {' '}
                overdue, tried again at <Time at={next.nextAttemptAt} precision="second" />
              </strong>
            )}
          </span>
        )}
        {flag.suspended.nodes.length > 0 && (
          <strong class="conflict">
            {flag.suspended.nodes.length === 1
              ? '1 change waits'
              : `${flag.suspended.nodes.length} changes wait`}{' '}
            for someone: see below.
          </strong>
        )}
        {then !== undefined && (
          <span>
            Then{' '}
            <strong>
              {updatesText(then.updates)} at <Time at={then.scheduledAt} precision="second" />
            </strong>
          </span>
        )}
      </div>
      <div class="row">
        {isAdmin.value && flag.enabled && (
          <button type="button" class="btn" onClick={() => setAsked('off')}>
            Turn off now…
          </button>
        )}
        {isAdmin.value && (
          <button type="button" class="btn" onClick={() => setAsked(flag.enabled ? 'share' : 'on')}>
            Change now…
          </button>
        )}
        <a class="btn deskonly" href={link('/state', { env: flag.environment })}>
          State at…
        </a>
      </div>
      {asked !== null && (
        <ChangeNow
          {...{ environment: flag.environment, flagKey: flag.flagKey, kind: asked }}
          onClose={() => setAsked(null)}
        />
      )}
    </div>
  );
}

/** Since when it is so: the last change, or the flag's beginning. */
function Since({ flag }: Props) {
  const { lastChange, createdAt } = flag;
  const at = lastChange?.at ?? createdAt;
  const by = shortName(lastChange?.by);
  const bySchedule = (lastChange?.scheduleId ?? null) !== null;
  return (
    <span>
      Since{' '}
      <strong>
        <Time at={at} precision={bySchedule ? 'millisecond' : 'second'} />
      </strong>{' '}
      <span class="muted">({durationText(now.value - Date.parse(at))})</span>
      {bySchedule && `, by a schedule${by === '' ? '' : ' of'}`}
      {!bySchedule && by !== '' && ', by'}
      {by !== '' && ` ${by}`}
    </span>
  );
}
