import { InlineDiff, updatesText } from '../parts/flag_state.tsx';
import { durationText } from '../time/format.ts';
import type { Mark } from './model.ts';

/** What a mark changes, in a line: of one that came to nothing, what was asked for. */
export function ChangeText({ mark }: { readonly mark: Mark }) {
  if (mark.after !== null && mark.status !== 'cancelled')
    return <InlineDiff before={mark.before} after={mark.after} />;
  return <>{mark.updates === null ? mark.label : updatesText(mark.updates)}</>;
}

/** A word on how it went: `4 ms late`. */
export function noteOf({ status, lateMs }: Mark): string {
  if (lateMs !== null) return `${durationText(lateMs)} late`;
  if (status === 'conflict') return 'same instant: which wins is chance';
  if (status === 'changed') return 'no schedule';
  return '';
}
