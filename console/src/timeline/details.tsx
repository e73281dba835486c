import { Fragment } from 'preact';
import { graphql } from '../data/documents.ts';
import { isAdmin, readsTrail, shortName } from '../data/person.ts';
import { useResource } from '../data/resource.ts';
import { Failure } from '../parts/note.tsx';
import { Time } from '../parts/time.tsx';
import { link } from '../router.ts';
import { ScheduleActions } from '../schedules/actions.tsx';
import { differenceOf, differencesIn, suspendedWord } from '../schedules/guard.ts';
import { flagPath } from './lane.tsx';
import type { Mark } from './model.ts';

const SCHEDULE = graphql(`
  query ScheduleOf($id: UUID!, $asks: Boolean!) {
    featureFlagSchedule(id: $id) {
      id
      status
      scheduledAt
      appliedAt
      createdAt
      createdBy
      requestedBy
      reason
      attempts
      maxAttempts
      nextAttemptAt
      errorMessage
      cancelledAt
      cancelledBy
      cancelReason
      revision
      suspendedFor
      suspendedDetails @include(if: $asks)
      resolutionReason @include(if: $asks)
      planId
      plan @include(if: $asks) {
        title
      }
      conflicts @include(if: $asks) {
        field
        kind
        expected
        found
      }
      updates {
        enabled
        rolloutPercentage
      }
      flag {
        id
        flagKey
        environment
        enabled
        rolloutPercentage
        revision
      }
    }
  }
`);

/** What the schedule itself says. Viewers see no person and no reason. */
export function Details({ id, mark }: { readonly id: string; readonly mark: Mark }) {
  const found = useResource(SCHEDULE, { id, asks: readsTrail.value });
  const schedule = found.data.value?.featureFlagSchedule ?? null;
  return (
    <>
      <Failure error={found.error} refetch={found.refetch} />
      {schedule !== null && readsTrail.value && (
        <dl class="dl">
          <dt>Asked by</dt>
          <dd>
            {shortName(schedule.requestedBy ?? schedule.createdBy) || 'unknown'}{' '}
            <span class="muted">
              <Time at={schedule.createdAt} />
            </span>
          </dd>
          {schedule.reason !== null && (
            <>
              <dt>Why</dt>
              <dd>{schedule.reason}</dd>
            </>
          )}
          {schedule.plan !== null && schedule.plan !== undefined && (
            <>
              <dt>Plan</dt>
              <dd>
                <a href={link(`/plans/${schedule.planId ?? ''}`)}>{schedule.plan.title}</a>
              </dd>
            </>
          )}
          <Guards {...schedule} />
          {typeof schedule.resolutionReason === 'string' && (
            <>
              <dt>Resolved</dt>
              <dd>“{schedule.resolutionReason}”</dd>
            </>
          )}
          {schedule.cancelledAt !== null && (
            <>
              <dt>Cancelled</dt>
              <dd>
                {shortName(schedule.cancelledBy)} <Time at={schedule.cancelledAt} />
                {schedule.cancelReason !== null && <>, “{schedule.cancelReason}”</>}
              </dd>
            </>
          )}
          {schedule.errorMessage !== null && (
            <>
              <dt>Failed</dt>
              <dd>
                {schedule.errorMessage}{' '}
                <span class="muted">{`try ${schedule.attempts} of ${schedule.maxAttempts}`}</span>
              </dd>
            </>
          )}
        </dl>
      )}
      <div class="row">
        {schedule !== null && isAdmin.value && (
          <ScheduleActions schedule={{ ...schedule, environment: mark.environment }} />
        )}
        <a class="btn" href={flagPath(mark)}>
          Open
        </a>
      </div>
    </>
  );
}

interface GuardProps {
  readonly status: string;
  readonly suspendedFor: string | null;
  readonly suspendedDetails?: unknown;
  readonly conflicts?: readonly {
    readonly field: string;
    readonly kind: string;
    readonly expected: unknown;
    readonly found: unknown;
  }[];
}

/** What it expected and found, or will find as things stand. */
function Guards({ status, suspendedFor, suspendedDetails, conflicts = [] }: GuardProps) {
  const isSuspended = status === 'suspended';
  const differences = isSuspended
    ? differencesIn(suspendedDetails)
    : conflicts
        .filter(({ kind }) => kind === 'expectation')
        .map(({ field, expected, found }) => differenceOf(field, expected, found));
  return (
    <>
      {isSuspended && (
        <>
          <dt>Waits</dt>
          <dd>{suspendedWord(suspendedFor)}</dd>
        </>
      )}
      {differences.map(({ field, expected, found }) => (
        <Fragment key={field}>
          <dt>Expects</dt>
          <dd>
            {field} <strong>{expected}</strong>, {isSuspended ? 'found' : 'will find'}{' '}
            <strong>{found}</strong>
          </dd>
        </Fragment>
      ))}
    </>
  );
}
