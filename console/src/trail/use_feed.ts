import { useComputed, useSignal, useSignalEffect } from '@preact/signals';
import { useEffect, useMemo } from 'preact/hooks';
import { changes } from '../data/changes.ts';
import { databaseNow } from '../data/clock.ts';
import { follow } from '../data/live.ts';
import { environment, environments } from '../data/person.ts';
import { param } from '../router.ts';
import { zone } from '../settings.ts';
import { EVENTS_ADDED } from './documents.ts';
import { makeFeed, type Feed } from './feed.ts';
import { readSearch, type TrailSearch } from './search.ts';

/** Whether the list and an opened event have no room beside each other, as in the style sheets. */
export const isNarrow = (): boolean => matchMedia('(max-width: 1100px)').matches;
/** Pixels from the top within which the list counts as not scrolled. */
export const NEAR_TOP = 80;

/** The search that the address asks for, and its events as they come. */
export function useFeed(): {
  readonly search: TrailSearch;
  readonly feed: Feed;
  readonly looks: number;
} {
  const text = param('q');
  // One who sees one environment alone sees what is of none with it.
  const shown =
    environment.value === 'all' || environments.value.length < 2 ? null : environment.value;
  const looks = useSignal(0);
  const made = useMemo(() => {
    const search = readSearch(text, { zone: zone.value, now: databaseNow(), environment: shown });
    return { search, feed: makeFeed(search, () => (looks.value += 1)) };
  }, [text, shown, zone.value]);
  const { feed } = made;
  useEffect(() => {
    void feed.more();
    const stop = follow(EVENTS_ADDED, {}, feed.look, feed.look);
    return () => {
      stop();
      feed.end();
    };
  }, [feed]);
  // A connection that is there again has missed something.
  useSignalEffect(() => {
    if (changes.value > 0) feed.look();
  });
  return { ...made, looks: looks.value };
}

/** Whether new events are held back: by the person, by a list that is scrolled, or by a pointer on a row that would move. */
export function useHold(feed: Feed, isOpen: boolean) {
  const isAsked = useSignal(false);
  const isScrolled = useSignal(false);
  const isPointed = useSignal(false);
  const isHeld = useComputed(() => isAsked.value || isScrolled.value || isPointed.value);
  useEffect(() => {
    const look = (): void => {
      // On a narrow screen an opened event hides the list, which keeps its place.
      isScrolled.value = scrollY > NEAR_TOP || (isOpen && isNarrow());
    };
    look();
    addEventListener('scroll', look, { passive: true });
    return () => removeEventListener('scroll', look);
  }, [isOpen]);
  useSignalEffect(() => feed.hold(isHeld.value));
  useEffect(() => feed.hold(isHeld.value), [feed]);
  return { isAsked, isPointed };
}
