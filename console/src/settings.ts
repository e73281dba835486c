import { computed, effect, signal } from '@preact/signals';
import { param } from './router.ts';
import { isZone } from './time/zone.ts';

/** Kept in the browser, not in the account. Where the browser keeps nothing, they last as long as the page. */
function read(name: string): string | null {
  try {
    return localStorage.getItem(`halyard.${name}`);
  } catch {
    return null;
  }
}

function write(name: string, value: string): void {
  try {
    localStorage.setItem(`halyard.${name}`, value);
  } catch {
    // Private windows may refuse it.
  }
}

function kept(name: string, initial: string) {
  const value = signal(read(name) ?? initial);
  effect(() => write(name, value.value));
  return value;
}

/** `system`, `light` or `dark`. */
export const theme = kept('theme', 'system');
effect(() => {
  document.documentElement.dataset.theme = theme.value;
});

/** `comfortable` or `dense`. */
export const density = kept('density', 'comfortable');

const browserZone = Intl.DateTimeFormat().resolvedOptions().timeZone;
export const preferredZone = kept('zone', browserZone);

/** The zone that all times are shown in: the address's, else the one chosen last, else the browser's. */
export const zone = computed(() => {
  const asked = param('tz');
  if (asked !== '' && isZone(asked)) return asked;
  return isZone(preferredZone.value) ? preferredZone.value : 'UTC';
});

const narrow = matchMedia('(max-width: 820px)');
/** Whether the page is laid out for a phone: styles/*.css change at the same width. */
export const isPhone = signal(narrow.matches);
narrow.addEventListener('change', () => (isPhone.value = narrow.matches));
