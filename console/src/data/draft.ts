import { useRef, useState } from 'preact/hooks';
import { path } from '../router.ts';

const PREFIX = 'halyard.draft ';
const keyOf = (name: string): string => `${PREFIX}${path.value} ${name}`;

/** Drops all that is kept: the next person to sign in may be another. */
export function dropDrafts(): void {
  try {
    for (const key of Object.keys(sessionStorage))
      if (key.startsWith(PREFIX)) sessionStorage.removeItem(key);
  } catch {
    // Nothing is kept.
  }
}

/** Drops what one form of this page keeps, as when one leaves it. */
export function dropDraft(name: string): void {
  try {
    sessionStorage.removeItem(keyOf(name));
  } catch {
    // Nothing is kept.
  }
}

function read(key: string): unknown {
  try {
    return JSON.parse(sessionStorage.getItem(key) ?? 'null');
  } catch {
    return null;
  }
}

/**
 * The values of a form that isn't sent yet. They are kept by the page's address in the tab's own storage, so that they outlast a reload
 * and a sign-in.
 *
 * @param name of the form, where a page has several
 * @param initial the values of a new form; what is kept of other keys is left out
 */
export function useDraft<T extends Readonly<Record<string, unknown>>>(name: string, initial: T) {
  const [values, setValues] = useState<T>(() => {
    const kept = read(keyOf(name));
    return typeof kept === 'object' && kept !== null ? { ...initial, ...kept } : initial;
  });
  const latest = useRef(values);
  latest.current = values;
  return {
    values,
    /** Changes some of them. */
    change: (some: Partial<T>): void => {
      setValues((old) => {
        const next = { ...old, ...some };
        try {
          sessionStorage.setItem(keyOf(name), JSON.stringify(next));
        } catch {
          // Private windows may refuse it.
        }
        return next;
      });
    },
    /** Drops what is kept, as after it was sent, and begins with other values; not what was typed since. */
    drop: (next: T = initial): void => {
      if (latest.current !== values) return;
      dropDraft(name);
      setValues(next);
    },
  };
}
