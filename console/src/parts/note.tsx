import type { ReadonlySignal } from '@preact/signals';
import type { ComponentChildren } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import type { ApiError } from '../data/request.ts';
import { Icon, type IconName } from './icons.tsx';

export type Tone = 'failed' | 'conflict' | 'pending' | 'applied' | 'quiet';

const ICONS: Readonly<Record<Tone, IconName>> = {
  failed: 'warning',
  conflict: 'warning',
  pending: 'info',
  applied: 'shield',
  quiet: 'info',
};

/** A sentence that matters, with an edge. `failed` is said aloud. */
export const Note = ({
  tone,
  children,
}: {
  readonly tone: Tone;
  readonly children: ComponentChildren;
}) => (
  <div class={`note ${tone}`} {...(tone === 'failed' ? { role: 'alert' } : {})}>
    <Icon name={ICONS[tone]} />
    <div>{children}</div>
  </div>
);

interface Failing {
  readonly error: ReadonlySignal<ApiError | null>;
  readonly refetch?: () => Promise<void>;
  /** Of a part of a page that asks the same server: the page says it where the server does not answer, or has no database. */
  readonly isPart?: boolean;
}

/** The server's sentence, its code in small, and Try again. Nothing where there is no error. */
export function Failure({ error, refetch, isPart = false }: Failing) {
  const found = error.value;
  if (found === null || (isPart && [0, 503].includes(found.status))) return null;
  return (
    <Note tone="failed">
      {found.message} <span class="small muted">{found.code}</span>{' '}
      {refetch !== undefined && (
        <button type="button" class="btn" onClick={() => void refetch()}>
          Try again
        </button>
      )}
    </Note>
  );
}

/** Grey bars in place of rows, after 300 ms: what comes sooner needs none. */
export function Waiting({ rows = 6 }: { readonly rows?: number }) {
  const [isLate, setLate] = useState(false);
  useEffect(() => {
    const timer = setTimeout(() => setLate(true), 300);
    return () => clearTimeout(timer);
  }, []);
  if (!isLate) return null;
  return (
    <div class="waiting" role="status" aria-label="Loading">
      {Array.from({ length: rows }, (_, i) => (
        <span key={i} />
      ))}
    </div>
  );
}
