import { signal } from '@preact/signals';
import { now } from './clock.ts';
import { refetchAll } from './resource.ts';

/** How many times something changed on the server; for what the page says aloud. */
export const changes = signal(0);

/** The shortest time between two times that all is asked again. */
const REFETCH_MS = 300;
/** Changes of one moment are answered by one round of queries. */
const TOGETHER_MS = 30;

/** Whether something changed while the tab was hidden: it asks once one looks at it. */
let isHeldBack = false;
let due: ReturnType<typeof setTimeout> | null = null;
let running = false;
let missed = false;
let askedAt = -Infinity;

/** Something changed: asks again for what is shown, once for all changes of a moment. */
export function changed(): void {
  isHeldBack = document.hidden;
  if (isHeldBack) return;
  if (running) missed = true;
  if (running || due !== null) return;
  const waitMs = Math.max(TOGETHER_MS, askedAt + REFETCH_MS - performance.now());
  due = setTimeout(() => {
    due = null;
    running = true;
    missed = false;
    askedAt = performance.now();
    changes.value += 1;
    void refetchAll().finally(() => {
      running = false;
      // Set while it ran.
      if (missed) changed();
    });
  }, waitMs);
}

// The time goes on once one looks at the tab.
now.subscribe(() => {
  if (isHeldBack && !document.hidden) changed();
});
