import { useSignal } from '@preact/signals';
import type { RefObject } from 'preact';
import { useEffect } from 'preact/hooks';

/** The width of an element in pixels, as it is drawn now. */
export function useWidth(element: RefObject<Element | null>, initial: number) {
  const width = useSignal(initial);
  useEffect(() => {
    const found = element.current;
    if (found === null) return undefined;
    const observer = new ResizeObserver(([entry]) => {
      if (entry !== undefined && entry.contentRect.width > 0)
        width.value = Math.round(entry.contentRect.width);
    });
    observer.observe(found);
    return () => observer.disconnect();
  }, []);
  return width;
}

/** Rows beyond the screen that are drawn all the same, above and below. */
const SPARE = 6;
/** Up to so many rows all are drawn. */
const ALL = 40;

/** Which of many rows of one height are near the screen: the others aren't in the document. */
export function useWindow(element: RefObject<Element | null>, count: number, height: number) {
  const first = useSignal(0);
  const last = useSignal(ALL);
  useEffect(() => {
    if (count <= ALL) {
      first.value = 0;
      last.value = count;
      return undefined;
    }
    let frame = 0;
    const look = (): void => {
      frame = 0;
      const top = element.current?.getBoundingClientRect().top ?? 0;
      // In steps: a scroll draws rows after some of them have passed, and not with each pixel.
      const from = Math.floor(-top / height / SPARE) * SPARE - SPARE;
      first.value = Math.max(0, Math.min(from, count));
      last.value = Math.min(count, from + Math.ceil(innerHeight / height) + 3 * SPARE);
    };
    const request = (): void => {
      frame ||= requestAnimationFrame(look);
    };
    look();
    addEventListener('scroll', request, { passive: true });
    addEventListener('resize', request);
    return () => {
      cancelAnimationFrame(frame);
      removeEventListener('scroll', request);
      removeEventListener('resize', request);
    };
  }, [count, height]);
  return { first: first.value, last: last.value };
}
