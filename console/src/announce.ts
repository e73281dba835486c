import { signal } from '@preact/signals';

/** What a screen reader is given, in one polite region. */
export const announcement = signal('');

const INTERVAL_MS = 5_000;
let next = '';
let timer: ReturnType<typeof setTimeout> | null = null;

/** Says a sentence, at most once in five seconds: of several the last one. */
export function announce(sentence: string): void {
  next = sentence;
  if (timer !== null) return;
  announcement.value = sentence;
  timer = setTimeout(() => {
    timer = null;
    const said = announcement.value;
    // Empty between two: else the same sentence once more would be no change, and stay unheard.
    announcement.value = '';
    if (next !== said) announce(next);
  }, INTERVAL_MS);
}
