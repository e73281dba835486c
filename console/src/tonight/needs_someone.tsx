import { isAdmin } from '../data/person.ts';
import { stateText, updatesText } from '../parts/flag_state.tsx';
import { ScheduleActions } from '../schedules/actions.tsx';
import type { Failed } from './documents.ts';
import { Entry } from './list.tsx';

interface NeedsProps {
  readonly failed: readonly (Failed & { readonly environment: string })[];
  readonly isMany: boolean;
}

/** What failed and waits for a person. */
export const NeedsSomeone = ({ failed, isMany }: NeedsProps) => (
  <section class="card" aria-labelledby="needs">
    <header class="between">
      <h2 id="needs">
        {failed.length === 1 ? '1 needs someone' : `${failed.length} need someone`}
      </h2>
    </header>
    <ol class="hist">
      {failed.map((one) => (
        <Entry
          {...{
            key: one.id,
            isMany,
            environment: one.environment,
            flagKey: one.flag?.flagKey ?? '',
          }}
          {...{ at: Date.parse(one.scheduledAt), status: 'failed' as const }}
          by={one.requestedBy ?? one.createdBy ?? ''}
          what={`${updatesText(one.updates)}, failed`}
        >
          <div class="row between choice">
            <div class="stack tight">
              <span>
                Failed after {one.attempts} {one.attempts === 1 ? 'try' : 'tries'}
                {typeof one.errorMessage === 'string' && `: ${one.errorMessage}`}.
                {one.flag !== null && ` It stays ${stateText(one.flag).toLowerCase()}.`}
              </span>
              {typeof one.reason === 'string' && <span class="small muted">{one.reason}</span>}
            </div>
            {isAdmin.value && (
              <ScheduleActions
                schedule={one}
                what={`${updatesText(one.updates)} of ${one.flag?.flagKey ?? ''}`}
              />
            )}
          </div>
        </Entry>
      ))}
    </ol>
  </section>
);
