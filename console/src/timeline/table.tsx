import { useState } from 'preact/hooks';
import { databaseNow } from '../data/clock.ts';
import { zone } from '../settings.ts';
import { shortText } from '../time/format.ts';
import { StatusTag } from '../parts/marks.tsx';
import { withParams } from '../router.ts';
import { ChangeText, noteOf } from './change_text.tsx';
import { flagPath } from './lane.tsx';
import type { Mark } from './model.ts';

/** Rows at first, and with each press of Show more. */
const PAGE = 20;

/** The chosen change is described above the table: brings it into sight. */
const showChosen = (): void => {
  requestAnimationFrame(() => document.querySelector('.inspector')?.scrollIntoView());
};

/** The marks of the chart as a table: for reading, copying, printing, and screen readers. */
export function ChangesTable({ marks }: { readonly marks: readonly Mark[] }) {
  const [shown, setShown] = useState(PAGE);
  return (
    <section class="card tablecard" id="table" aria-label="Changes in view">
      <table>
        <caption>
          {marks.length === 1 ? '1 change in view' : `${marks.length} changes in view`}{' '}
          <span class="small muted">
            the same as above, as a table{marks.length > shown ? `; ${shown} shown` : ''}
          </span>
        </caption>
        <thead>
          <tr>
            {['When', 'Status', 'Flag', 'Environment', 'Change', 'Note'].map((name) => (
              <th key={name} scope="col">
                {name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {marks.slice(0, shown).map((mark) => (
            <tr key={mark.id}>
              <td>
                <a href={withParams({ sel: mark.id })} onClick={showChosen}>
                  <time dateTime={new Date(mark.at).toISOString()}>
                    {shortText(mark.at, zone.value, databaseNow(), 'second')}
                  </time>
                </a>
              </td>
              <td>
                <StatusTag status={mark.status} />
              </td>
              <td>
                <a href={flagPath(mark)}>{mark.flagKey}</a>
              </td>
              <td>{mark.environment}</td>
              <td class="wide">
                <ChangeText mark={mark} />
              </td>
              <td class="muted">{noteOf(mark)}</td>
            </tr>
          ))}
        </tbody>
      </table>
      {marks.length > shown && (
        <p class="more">
          <button type="button" class="link" onClick={() => setShown(shown + 10 * PAGE)}>
            Show more
          </button>
        </p>
      )}
    </section>
  );
}
