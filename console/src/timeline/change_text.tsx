import { InlineDiff, updatesText } from '../parts/flag_state.tsx';
import { durationText } from '../time/format.ts';
import type { Mark } from './model.ts';
import { plansOf } from './plan_titles.ts';

/** What a mark changes, in a line: of one that came to nothing, what was asked for. */
export function ChangeText({ mark }: { readonly mark: Mark }) {
  if (mark.after !== null && mark.status !== 'cancelled' && mark.status !== 'skipped')
    return <InlineDiff before={mark.before} after={mark.after} />;
  return <>{mark.updates === null ? mark.label : updatesText(mark.updates)}</>;
}

/** How it went, or will, and the plan that it belongs to: `4 ms late, Black Friday`. */
export const noteOf = (mark: Mark): string =>
  [wordOf(mark), plansOf([mark])].filter(Boolean).join(', ');

function wordOf({ status, lateMs, isTogether }: Mark): string {
  if (lateMs !== null) return `${durationText(lateMs)} late`;
  if (status === 'conflict')
    return isTogether ? 'same instant: which wins is chance' : 'expects another value';
  if (status === 'suspended') return 'waits for someone';
  if (status === 'changed') return 'no schedule';
  return '';
}
