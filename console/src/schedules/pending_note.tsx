import { now } from '../data/clock.ts';
import { shortName } from '../data/person.ts';
import { InlineDiff, shortState, updatesText, type FlagUpdates } from '../parts/flag_state.tsx';
import { Note } from '../parts/note.tsx';
import { zone } from '../settings.ts';
import { shortText } from '../time/format.ts';
import type { Neighbours, Pending } from './effect.ts';

/** A pending schedule, with who asked for it. */
export interface AskedPending extends Pending {
  readonly createdBy: string | null;
  readonly requestedBy: string | null;
}

const when = (at: string): string => shortText(Date.parse(at), zone.value, now.value);

/** As `alice’s 50% at 18:00`. */
export function nameOf({ createdBy, requestedBy, updates, scheduledAt }: AskedPending): string {
  const who = shortName(requestedBy ?? createdBy);
  const change = updatesText(updates);
  return `${who === '' ? 'a schedule to' : `${who}’s`} ${change} at ${when(scheduledAt)}`;
}

/** As the beginning of a sentence: a user id keeps its letters. */
const atStart = (text: string): string => text.replace(/^a schedule/, 'A schedule');

/** What a change does at its instant, and which pending changes touch it: read before it is saved. */
export function PendingNote({
  neighbours,
  updates,
}: {
  readonly neighbours: Neighbours<AskedPending>;
  readonly updates: FlagUpdates;
}) {
  const { before, after, together, next, more } = neighbours;
  return (
    <>
      <p>
        <span class="muted">At that instant: </span>
        <InlineDiff before={before} after={after} />
      </p>
      {together.length > 0 && (
        <Note tone="conflict">
          At the same instant there is {together.map(nameOf).join(' and ')}. Which of them wins
          can’t be chosen: take another second.
        </Note>
      )}
      {updates.rolloutPercentage !== null &&
        updates.rolloutPercentage !== undefined &&
        !after.enabled && (
          <Note tone="conflict">The flag is off then: a share alone turns nothing on.</Note>
        )}
      {next !== null && (
        <Note tone="conflict">
          {atStart(nameOf(next.schedule))} comes after this and sets {shortState(next.state)}
          {more === 0 ? '' : `; ${more} more after it`}.
        </Note>
      )}
    </>
  );
}
