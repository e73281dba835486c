import type { ComponentChildren } from 'preact';

/** What a mark says about a change. `changed` is one that no schedule made. */
export type Status =
  | 'applied'
  | 'changed'
  | 'pending'
  | 'failed'
  | 'cancelled'
  | 'suspended'
  | 'skipped'
  | 'conflict'
  | 'uncertain';

/** The word of each status, and the class of its colour. Colour alone says nothing: each has a shape. */
export const STATUS: Readonly<Record<Status, { readonly word: string; readonly tone: string }>> = {
  applied: { word: 'Applied', tone: 'applied' },
  changed: { word: 'Changed at once', tone: 'applied' },
  pending: { word: 'Pending', tone: 'pending' },
  failed: { word: 'Failed', tone: 'failed' },
  cancelled: { word: 'Cancelled', tone: 'quiet' },
  suspended: { word: 'Suspended', tone: 'conflict' },
  skipped: { word: 'Skipped', tone: 'quiet' },
  conflict: { word: 'Conflict', tone: 'conflict' },
  uncertain: { word: 'Retrying', tone: 'conflict' },
};

/** The status of a schedule, as the API writes it. */
export const statusOf = (status: string): Status =>
  Object.hasOwn(STATUS, status) ? (status as Status) : 'pending';

/** The shape around 0,0, some 14 px wide. */
export function Shape({ status }: { readonly status: Status }) {
  switch (status) {
    case 'applied':
      return (
        <>
          <circle class="mk" r="7" />
          <path class="mkx" d="M-3.2 .2 -1 2.4 3.2 -2.4" />
        </>
      );
    case 'changed':
      return (
        <>
          <circle class="mko" r="6.2" />
          <path class="mkl" d="M-3.2 .2 -1 2.4 3.2 -2.4" />
        </>
      );
    case 'pending':
      return (
        <>
          <circle class="mko" r="6.2" />
          <circle class="mk" r="2.2" />
        </>
      );
    case 'failed':
      return (
        <>
          <rect class="mk" x="-6.4" y="-6.4" width="12.8" height="12.8" rx="2" />
          <path class="mkx" d="M-2.8-2.8 2.8 2.8M2.8-2.8-2.8 2.8" />
        </>
      );
    case 'cancelled':
      return (
        <>
          <circle class="mko" r="6.2" />
          <path class="mkl" d="M-4.4 4.4 4.4-4.4" />
        </>
      );
    case 'suspended':
      return (
        <>
          <circle class="mko" r="6.2" />
          <path class="mkl" d="M-2-2.7V2.7M2-2.7V2.7" />
        </>
      );
    case 'skipped':
      return (
        <>
          <circle class="mko" r="6.2" />
          <path class="mkl" d="M-3.2-2.6-.6 0-3.2 2.6M.6-2.6 3.2 0 .6 2.6" />
        </>
      );
    case 'conflict':
    case 'uncertain':
      return (
        <>
          <path class="mk round" d="M0-7.4 7.8 6.4-7.8 6.4Z" />
          <path class="mkx" d="M0-2.4V1.6M0 4.1v.1" />
        </>
      );
  }
}

export const MarkIcon = ({ status }: { readonly status: Status }) => (
  <svg viewBox="-9 -9 18 18" class={STATUS[status].tone} aria-hidden="true">
    <Shape status={status} />
  </svg>
);

/** Shape and word. */
export const StatusTag = ({
  status,
  children,
}: {
  readonly status: Status;
  readonly children?: ComponentChildren;
}) => (
  <span class={`tag ${STATUS[status].tone}`}>
    <MarkIcon status={status} />
    {children ?? STATUS[status].word}
  </span>
);
