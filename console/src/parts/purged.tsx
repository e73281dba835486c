import { horizon } from '../data/horizon.ts';
import { Note } from './note.tsx';
import { FullTime } from './time.tsx';

/** Says that what is shown begins later than what one asks for, where the trail was purged. */
export const Purged = ({ from }: { readonly from: number }) =>
  horizon.value <= from ? null : (
    <Note tone="quiet">
      The trail was purged up to <FullTime at={horizon.value} />: what was before is not shown.
    </Note>
  );
