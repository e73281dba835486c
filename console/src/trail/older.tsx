import { useEffect, useRef } from 'preact/hooks';
import type { Feed } from './feed.ts';
import { rowTime } from './list.tsx';

/** Older events come as one scrolls to the end, or presses. */
export function Older({ feed, isSearch }: { readonly feed: Feed; readonly isSearch: boolean }) {
  const end = useRef<HTMLDivElement>(null);
  const hasMore = feed.hasMore.value;
  useEffect(() => {
    const found = end.current;
    // A search for words would go on and on by itself.
    if (found === null || !hasMore || isSearch) return undefined;
    const observer = new IntersectionObserver(
      (entries) => {
        if (entries.some(({ isIntersecting }) => isIntersecting)) void feed.more();
      },
      { rootMargin: '400px' },
    );
    observer.observe(found);
    return () => observer.disconnect();
  }, [feed, hasMore, isSearch, feed.listed.value.shown.length]);
  const to = feed.searchedTo.value;
  if (!feed.isStarted.value) return null;
  return (
    <div class="more" ref={end}>
      {hasMore && (
        <button
          {...{ type: 'button', class: 'link', disabled: feed.isLoading.value }}
          onClick={() => void feed.more()}
        >
          {feed.isLoading.value ? 'Loading…' : isSearch ? 'Search further back' : 'Older events'}
        </button>
      )}
      {to !== null && isSearch && <span class="muted">searched back to {rowTime(to)}</span>}
      {!hasMore && <span class="muted">That is all.</span>}
    </div>
  );
}
