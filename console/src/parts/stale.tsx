import type { ComponentChildren } from 'preact';
import type { ApiError } from '../data/request.ts';
import { Note } from './note.tsx';

interface Props {
  readonly error: ApiError;
  /** What is there now, and what one asked for, where that helps to decide. */
  readonly children?: ComponentChildren;
  readonly onKeepMine: () => void;
  readonly onTakeTheirs: () => void;
  readonly onCancel: () => void;
}

/** Somebody else changed it since it was read: who and what, by the server's sentence, and what to do about it. */
export const Stale = ({ error, children, onKeepMine, onTakeTheirs, onCancel }: Props) => (
  <Note tone="conflict">
    <div class="stack" role="alert">
      <strong>Somebody changed it meanwhile</strong>
      <span>{error.message}</span>
      {children}
      <div class="row">
        <button type="button" class="btn" onClick={onKeepMine}>
          Keep mine
        </button>
        <button type="button" class="btn" onClick={onTakeTheirs}>
          Take theirs
        </button>
        <button type="button" class="btn" onClick={onCancel}>
          Cancel
        </button>
      </div>
    </div>
  </Note>
);

/** A refusal that no field shows. */
export const Refused = ({ error }: { readonly error: ApiError | null }) =>
  error === null ? null : (
    <Note tone="failed">
      {error.message} <span class="small muted">{error.code}</span>
    </Note>
  );
