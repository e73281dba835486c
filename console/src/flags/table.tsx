import { Fragment } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import { readsTrail } from '../data/person.ts';
import { density, isPhone } from '../settings.ts';
import { useWindow } from '../timeline/use_size.ts';
import { groupName, type FlagRow } from './model.ts';
import { Row } from './row.tsx';
import { steady } from './steady.ts';

interface Props {
  readonly environment: string;
  readonly rows: readonly FlagRow[];
  readonly more: (() => void) | null;
}

/** Pixels of a row: they have one height, so that only those near the screen are in the document. */
const HEIGHTS = { comfortable: 47, dense: 33, phone: 86 } as const;

export function FlagTable({ environment, rows: sorted, more }: Props) {
  const [isHeld, setHeld] = useState(false);
  const shown = useRef(sorted);
  const rows = isHeld ? steady(sorted, shown.current) : sorted;
  shown.current = rows;
  const body = useRef<HTMLTableElement>(null);
  const height = isPhone.value
    ? HEIGHTS.phone
    : HEIGHTS[density.value === 'dense' ? 'dense' : 'comfortable'];
  const { first, last } = useWindow(body, rows.length, height);
  const hasPersons = readsTrail.value;
  const names = ['Flag', 'Now', 'Since', 'Next change', ...(hasPersons ? ['Last change by'] : [])];
  const counts = Map.groupBy(rows, ({ group }) => group);
  const gap = (count: number) =>
    count > 0 && (
      <tr role="presentation" class="gap">
        <td role="presentation" colSpan={names.length} style={{ height: `${count * height}px` }} />
      </tr>
    );
  return (
    <>
      <table
        {...{ ref: body, class: 'rows fl', role: 'table' }}
        aria-label={`Flags of ${environment}`}
        onPointerEnter={() => setHeld(true)}
        onPointerLeave={() => setHeld(false)}
        onFocusIn={() => setHeld(true)}
        onFocusOut={() => setHeld(false)}
      >
        <thead role="rowgroup">
          <tr role="row">
            {names.map((name) => (
              <th key={name} role="columnheader" scope="col">
                {name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody role="rowgroup">
          {gap(first)}
          {rows.slice(first, last).map((row, i) => (
            <Fragment key={row.flag.id}>
              {rows[first + i - 1]?.group !== row.group && (
                <tr role="row" class="group">
                  <th role="rowheader" scope="colgroup" colSpan={names.length}>
                    {groupName(
                      row.group,
                      counts.get(row.group)?.length ?? 0,
                      counts.has('someone'),
                    )}
                    {row.group === 'rest' && more !== null && ' so far'}
                  </th>
                </tr>
              )}
              <Row row={row} hasPersons={hasPersons} />
            </Fragment>
          ))}
          {gap(rows.length - last)}
        </tbody>
      </table>
      {more !== null && <More key={rows.length} onMore={more} />}
    </>
  );
}

/** Loads more when it comes near the screen, or by its button. */
function More({ onMore }: { readonly onMore: () => void }) {
  const element = useRef<HTMLParagraphElement>(null);
  useEffect(() => {
    if (element.current === null) return undefined;
    const observer = new IntersectionObserver(
      ([entry]) => {
        if (entry?.isIntersecting === true) onMore();
      },
      { rootMargin: '600px' },
    );
    observer.observe(element.current);
    return () => observer.disconnect();
  }, []);
  return (
    <p class="more" ref={element}>
      <button type="button" class="link" onClick={onMore}>
        Show more flags
      </button>
    </p>
  );
}
