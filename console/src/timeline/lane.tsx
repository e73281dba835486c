import type { ComponentChildren } from 'preact';
import { isPlain, link, navigate, withParams } from '../router.ts';
import { zone } from '../settings.ts';
import { databaseNow } from '../data/clock.ts';
import { instantText } from '../time/format.ts';
import { shareOf, stateText } from '../parts/flag_state.tsx';
import { Shape, STATUS, type Status } from '../parts/marks.tsx';
import { memo } from '../parts/memo.ts';
import { Bands } from './bands.tsx';
import { groupMarks, isOneConflict, textOf, type MarkGroup } from './groups.ts';
import { markText, type Row } from './model.ts';
import { plansOf } from './plan_titles.ts';
import type { Range } from './range.ts';
import { markTop, percent, x } from './scale.ts';

interface Props {
  readonly row: Row;
  readonly range: Range;
  /** Of the axis, in pixels: for grouping alone. */
  readonly width: number;
  /** Of the row, in pixels. */
  readonly height: number;
  /** The id of the chosen mark. */
  readonly chosen: string;
}

export const flagPath = ({
  environment,
  flagKey,
}: {
  readonly environment: string;
  readonly flagKey: string;
}): string => link(`/flags/${encodeURIComponent(environment)}/${encodeURIComponent(flagKey)}`);

/** What someone has to look at. */
const HOT: readonly Status[] = ['failed', 'conflict', 'suspended'];

/** Walks the marks by the arrow keys: within a row, and to the nearest mark of the rows beside it. */
function walk(event: KeyboardEvent): void {
  const from = event.target as Element;
  const svg = from.closest('.marks');
  if (svg === null || !event.key.startsWith('Arrow')) return;
  const marks = [...svg.querySelectorAll('a')];
  let next: Element | undefined;
  if (event.key === 'ArrowLeft' || event.key === 'ArrowRight')
    next = marks[marks.indexOf(from.closest('a') as never) + (event.key === 'ArrowRight' ? 1 : -1)];
  else {
    const rows = [...document.querySelectorAll('.chart .marks:has(a)')];
    const row = rows[rows.indexOf(svg) + (event.key === 'ArrowDown' ? 1 : -1)];
    const left = from.getBoundingClientRect().left;
    next = [...(row?.querySelectorAll('a') ?? [])].sort(
      (a, b) =>
        Math.abs(a.getBoundingClientRect().left - left) -
        Math.abs(b.getBoundingClientRect().left - left),
    )[0];
  }
  event.preventDefault();
  if (next instanceof SVGElement) next.focus();
}

interface MarkProps {
  readonly group: MarkGroup;
  readonly range: Range;
  readonly height: number;
  readonly isFirst: boolean;
  readonly chosen: string;
}

function MarkGroupLink({ group, range, height, isFirst, chosen }: MarkProps) {
  const { marks, hasLabel } = group;
  const [mark] = marks;
  const worst = marks.find(({ status }) => HOT.includes(status)) ?? mark;
  const { word, tone } = STATUS[worst.status];
  const state = worst.after ?? worst.before;
  const text = textOf(marks);
  const isChosen = marks.some(({ id }) => id === chosen);
  const when = instantText(mark.at, zone.value, databaseNow());
  const plans = plansOf(marks);
  const part = plans === '' ? '' : `, part of ${plans}`;
  const name =
    marks.length === 1
      ? `${markText(mark, word)}, ${when}${part}`
      : `${mark.flagKey} in ${mark.environment}: ${marks.length} changes from ${when}, ${word}${part}`;
  // Of several the next one is chosen with each press.
  const i = marks.findIndex(({ id }) => id === chosen);
  const next = marks[(i + 1) % marks.length] ?? mark;
  return (
    <svg
      role="none"
      x={x(mark.at, range)}
      y={markTop(state === null ? 0 : shareOf(state), height)}
      overflow="visible"
      class={tone}
    >
      <a
        {...{
          href: withParams({ sel: next.id }),
          'aria-label': name,
          tabIndex: isChosen || isFirst ? 0 : -1,
        }}
        {...(isChosen ? { 'aria-current': 'true' as const } : {})}
        data-at={mark.at}
        data-status={worst.status}
        onClick={(event) => {
          if (!isPlain(event)) return;
          event.preventDefault();
          navigate(withParams({ sel: next.id }), { replace: true });
        }}
      >
        {plans !== '' && <title>{plans}</title>}
        <circle class="halo" r="9" />
        {isChosen && <circle class="ring" r="11" />}
        <Shape status={worst.status} />
        {marks.length > 1 && !isOneConflict(marks) && (
          <text class="count" y="4" text-anchor="middle">
            {marks.length}
          </text>
        )}
      </a>
      {hasLabel && (
        <text
          class={HOT.includes(worst.status) ? 'pct strong' : 'pct'}
          {...(percent(mark.at, range) > 92
            ? { x: -12, 'text-anchor': 'end' as const }
            : { x: 11 })}
          y="-4"
          aria-hidden="true"
        >
          {text}
        </text>
      )}
    </svg>
  );
}

/** The bands of a row with the marks on them. */
export function Marks({
  row,
  range,
  width,
  height,
  chosen,
  children,
}: Props & { readonly children?: ComponentChildren }) {
  const groups = groupMarks(row.marks, range, width);
  const hasChosen = row.marks.some(({ id }) => id === chosen);
  return (
    <svg
      class="marks"
      role="group"
      aria-label={`${row.flagKey}, ${row.environment}`}
      onKeyDown={walk}
    >
      {children}
      <Bands segments={row.segments} range={range} height={height} />
      {groups.map((group, i) => (
        <MarkGroupLink
          {...{ key: group.marks[0].id, group, range, height, chosen }}
          isFirst={!hasChosen && i === 0}
        />
      ))}
    </svg>
  );
}

/** One flag over time. */
export const Lane = memo(function Lane(props: Props) {
  const { row, chosen } = props;
  return (
    <div class={row.marks.some(({ id }) => id === chosen) ? 'lane sel' : 'lane'}>
      <div class="name">
        <a href={flagPath(row)}>{row.flagKey}</a>
        <span class="small muted">
          {row.current === null ? 'not there' : stateText(row.current)}
        </span>
      </div>
      <Marks {...props} />
    </div>
  );
});
