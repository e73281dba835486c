import type { RefObject } from 'preact';
import { Fragment } from 'preact';
import { databaseNow } from '../data/clock.ts';
import { MarkIcon } from '../parts/marks.tsx';
import { SealTag } from '../parts/seal_tag.tsx';
import { memo } from '../parts/memo.ts';
import { ClockTime } from '../parts/time.tsx';
import { isPlain, link, navigate, param } from '../router.ts';
import { zone } from '../settings.ts';
import { dateText, longDayText, shortText } from '../time/format.ts';
import type { TrailEvent } from './documents.ts';
import { actorName, statusOfEvent, wordsOf } from './event_text.ts';

/** The address of an event, for others. */
export const eventPath = (id: string): string => link(`/trail/${id}`);

/** The same beside the list of this search. */
export const eventInList = (id: string): string => link(`/trail/${id}`, { q: param('q') });

/** Opens an event beside the list, which stays where it is. */
export const openEvent = (id: string): void => navigate(eventInList(id), { keepScroll: true });

/** A number of events or seals as people write it: `1,204`. */
export const numberText = (number: string | null): string =>
  Number(number ?? 0).toLocaleString('en-US');

/** An instant as the rows show it. */
export const rowTime = (at: string): string => shortText(Date.parse(at), zone.value, databaseNow());

interface RowProps {
  readonly event: TrailEvent;
  readonly isOpen: boolean;
}

/** Drawn again only when its event changes, and not with each second: so times are of the day on which it was drawn. */
const Row = memo(function Row({ event, isOpen }: RowProps) {
  const { title, rest } = wordsOf(event, rowTime);
  return (
    <li class={isOpen ? 'sel' : ''} {...(isOpen ? { 'aria-current': 'true' as const } : {})}>
      <span class="mono">
        <ClockTime at={event.occurredAt} />
      </span>
      <MarkIcon status={statusOfEvent(event)} />
      <span class="what">
        <a
          href={eventInList(event.id)}
          data-event={event.id}
          onClick={(click) => {
            if (!isPlain(click)) return;
            click.preventDefault();
            // Once more: to the event itself.
            if (isOpen) document.getElementById('opened')?.focus();
            else openEvent(event.id);
          }}
        >
          {title}
        </a>{' '}
        <span class="muted">{rest}</span>
      </span>
      <span class="by">{actorName(event)}</span>
      <span class="seal">
        <SealTag seal={event.seal} />
      </span>
    </li>
  );
});

interface Props {
  readonly events: readonly TrailEvent[];
  /** The id of the opened event. */
  readonly opened: string;
  readonly list: RefObject<HTMLOListElement | null>;
  readonly onPointer: (isInside: boolean) => void;
}

/** The events, newest first, with a heading for each day before today. */
export function EventList({ events, opened, list, onPointer }: Props) {
  const today = dateText(databaseNow(), zone.value);
  let day = today;
  return (
    <ol
      {...{ class: 'events', ref: list, 'aria-label': 'Events, newest first' }}
      onPointerEnter={({ pointerType }) => onPointer(pointerType === 'mouse')}
      onPointerLeave={() => onPointer(false)}
    >
      {events.map((event) => {
        const at = Date.parse(event.occurredAt);
        const date = dateText(at, zone.value);
        const isOther = date !== day;
        day = date;
        return (
          <Fragment key={event.id}>
            {isOther && <li class="day">{longDayText(at, zone.value, databaseNow())}</li>}
            <Row event={event} isOpen={event.id === opened} />
          </Fragment>
        );
      })}
    </ol>
  );
}

/** Puts the focus on the row behind (1) or before (-1) the one that has it, or that is open. */
export function step(list: HTMLOListElement | null, direction: 1 | -1): void {
  const links = [...(list?.querySelectorAll<HTMLAnchorElement>('a[data-event]') ?? [])];
  const focused = links.indexOf(document.activeElement as HTMLAnchorElement);
  const at =
    focused >= 0
      ? focused
      : links.findIndex((one) => one.closest('li')?.classList.contains('sel') === true);
  const next = links[Math.min(Math.max(at + direction, 0), links.length - 1)];
  next?.focus();
  next?.scrollIntoView({ block: 'nearest' });
}

/** The id of the event whose row has the focus; null where none has. */
export const focusedEvent = (): string | null =>
  document.activeElement instanceof HTMLElement
    ? (document.activeElement.dataset.event ?? null)
    : null;
