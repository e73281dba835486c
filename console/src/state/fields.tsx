import type { RefObject } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { now } from '../data/clock.ts';
import { Note } from '../parts/note.tsx';
import { setParams } from '../router.ts';
import { preferredZone, zone } from '../settings.ts';
import { longDayText, offsetTextAt, timeText } from '../time/format.ts';
import { readWhen, whenTextOf, type When, type WhenText } from '../time/when.ts';

/** Shows an instant on this page, and all times in a zone. */
export function showAt(at: number | null, inZone: string = zone.value): void {
  if (inZone !== zone.value) preferredZone.value = inZone;
  setParams({
    at: at === null ? null : new Date(at).toISOString().replace('.000Z', 'Z'),
    ...(inZone === zone.value ? {} : { tz: inZone }),
  });
}

interface Props {
  readonly at: number;
  readonly date: RefObject<HTMLInputElement | null>;
}

/** Date, time and zone of the instant: typed, and taken with Enter or on leaving the field. */
export function MomentFields({ at, date }: Props) {
  const shown = whenTextOf(at, zone.value);
  const [text, setText] = useState<WhenText>(shown);
  const [isTouched, setTouched] = useState(false);
  // Now goes on, and so does another instant, unless a person is typing.
  useEffect(() => {
    if (!isTouched) setText(shown);
  }, [shown.date, shown.time, shown.zone, shown.choice, isTouched]);
  const when = readWhen(text, now.value);
  const take = (found: When): void => {
    if (found.kind !== 'instant' && found.kind !== 'past') return;
    setTouched(false);
    showAt(found.at, text.zone.trim());
  };
  const type = (change: Partial<WhenText>): void => {
    setTouched(true);
    setText({ ...text, choice: '', ...change });
  };
  const field = (name: 'date' | 'time' | 'zone', label: string) => (
    <input
      {...{ class: 'input', type: 'text', 'aria-label': label, value: text[name] }}
      {...{ autoComplete: 'off', spellcheck: false }}
      {...(name === 'date' ? { ref: date } : {})}
      {...(name === 'zone' ? { list: 'zones' } : {})}
      {...(isTouched && when.kind === 'bad' && when.field === name
        ? { 'aria-invalid': 'true' as const, 'aria-describedby': 'moment-bad' }
        : {})}
      onInput={({ currentTarget }) => type({ [name]: currentTarget.value })}
      onBlur={() => {
        if (isTouched) take(when);
      }}
    />
  );
  return (
    <form
      class="moment"
      onSubmit={(event) => {
        event.preventDefault();
        take(when);
      }}
      onKeyDown={(event) => {
        if (event.key !== 'Escape') return;
        setTouched(false);
        setText(shown);
      }}
    >
      <span class="grid3 when">
        {field('date', 'Date')}
        {field('time', 'Time')}
        {field('zone', 'Time zone')}
      </span>
      {/* Enter sends a form of several fields only where it has such a button. */}
      <button type="submit" class="vh" tabIndex={-1}>
        Show
      </button>
      {isTouched && <Question when={when} zone={text.zone.trim()} onChoose={take} />}
    </form>
  );
}

interface QuestionProps {
  readonly when: When;
  readonly zone: string;
  readonly onChoose: (when: When) => void;
}

/** What is in the way of an instant: no date, clocks that were set forward, or set back. */
function Question({ when, zone: name, onChoose }: QuestionProps) {
  const choice = (at: number, text: string) => (
    <button
      {...{ key: at, type: 'button', class: 'btn' }}
      onClick={() => onChoose({ kind: 'instant', at, isSecond: null })}
    >
      {text}
    </button>
  );
  switch (when.kind) {
    case 'bad':
      return (
        <span id="moment-bad" class="small failed">
          {when.message}
        </span>
      );
    case 'gap':
      return (
        <Note tone="conflict">
          There is no such time: clocks in {name} are set forward on{' '}
          {longDayText(when.after.at, name, now.value)}.{' '}
          <span class="row">
            {[when.before, when.after].map((one) =>
              choice(one.at, `${one.time}, ${offsetTextAt(one.at, name)}`),
            )}
          </span>
        </Note>
      );
    case 'overlap':
      return (
        <Note tone="conflict">
          This time comes twice: clocks in {name} are set back on{' '}
          {longDayText(when.first, name, now.value)}. Which one?{' '}
          <span class="row">
            {choice(
              when.first,
              `First, ${timeText(when.first, name, 'second')} ${offsetTextAt(when.first, name)}`,
            )}
            {choice(
              when.second,
              `Second, ${timeText(when.second, name, 'second')} ${offsetTextAt(when.second, name)}`,
            )}
          </span>
        </Note>
      );
    case 'instant':
    case 'past':
      return null;
  }
}
