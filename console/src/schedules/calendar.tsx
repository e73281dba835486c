import { useId, useRef, useState } from 'preact/hooks';
import { Icon } from '../parts/icons.tsx';
import { dateText, longDayText } from '../time/format.ts';
import { monthOf, monthsLater, readFields, type WhenText } from '../time/when.ts';
import { DAY, isZone } from '../time/zone.ts';

interface Props {
  readonly value: WhenText;
  readonly now: number;
  readonly onChoose: (date: string) => void;
}

const STEPS: Readonly<Record<string, number>> = {
  ArrowLeft: -1,
  ArrowRight: 1,
  ArrowUp: -7,
  ArrowDown: 7,
};

const later = (date: string, days: number): string =>
  dateText(Date.parse(`${date}T00:00Z`) + days * DAY, 'UTC');
const nameOf = (date: string, now: number): string =>
  longDayText(Date.parse(`${date}T12:00Z`), 'UTC', now);

/** As `November 2026`. */
const monthName = (date: string): string =>
  new Intl.DateTimeFormat('en-GB', { month: 'long', year: 'numeric', timeZone: 'UTC' }).format(
    Date.parse(`${date}T12:00Z`),
  );

/** A month to choose a day from: arrows move by days and weeks, Page Up and Page Down by months. */
export function Calendar({ value, now, onChoose }: Props) {
  const id = useId();
  const menu = useRef<HTMLDivElement>(null);
  const zone = isZone(value.zone) ? value.zone : 'UTC';
  const today = dateText(now, zone);
  const found = readFields({ ...value, zone }, now);
  const chosen = typeof found === 'string' ? today : found.date;
  const [day, setDay] = useState(chosen);
  const [isOpen, setOpen] = useState(false);
  const show = (next: string): void => {
    setDay(next);
    // Once it is drawn.
    requestAnimationFrame(() =>
      menu.current?.querySelector<HTMLElement>('[tabindex="0"]')?.focus(),
    );
  };
  const press = (event: KeyboardEvent): void => {
    const step = STEPS[event.key];
    if (step !== undefined) show(later(day, step));
    else if (event.key === 'PageUp') show(monthsLater(day, -1));
    else if (event.key === 'PageDown') show(monthsLater(day, 1));
    else return;
    event.preventDefault();
  };
  const choose = (date: string): void => {
    menu.current?.hidePopover();
    onChoose(date);
  };
  return (
    <>
      <button type="button" class="btn icon" {...{ popovertarget: id }} aria-label="Choose a day">
        <Icon name="calendar" />
      </button>
      <div
        {...{ ref: menu, id, popover: 'auto', class: 'card menu calendar', role: 'dialog' }}
        aria-label="Day"
        onToggle={({ newState }) => {
          setOpen(newState === 'open');
          if (newState === 'open') show(chosen);
        }}
      >
        <header class="between">
          <button
            {...{ type: 'button', class: 'btn', 'aria-label': 'Month before' }}
            onClick={() => setDay(monthsLater(day, -1))}
          >
            ‹
          </button>
          <h2 aria-live="polite">{monthName(day)}</h2>
          <button
            {...{ type: 'button', class: 'btn', 'aria-label': 'Next month' }}
            onClick={() => setDay(monthsLater(day, 1))}
          >
            ›
          </button>
        </header>
        {isOpen && (
          <table onKeyDown={press}>
            <thead>
              <tr>
                {['Mo', 'Tu', 'We', 'Th', 'Fr', 'Sa', 'Su'].map((name) => (
                  <th key={name} scope="col">
                    {name}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {monthOf(day).map((week) => (
                <tr key={week[0]?.date}>
                  {week.map((one) => (
                    <td key={one.date}>
                      <button
                        {...{ type: 'button', disabled: one.date < today }}
                        class={one.isOfMonth ? '' : 'muted'}
                        aria-label={nameOf(one.date, now)}
                        tabIndex={one.date === day ? 0 : -1}
                        {...(one.date === chosen ? { 'aria-current': 'date' as const } : {})}
                        onClick={() => choose(one.date)}
                      >
                        {one.day}
                      </button>
                    </td>
                  ))}
                </tr>
              ))}
            </tbody>
          </table>
        )}
      </div>
    </>
  );
}
