import { useId } from 'preact/hooks';
import { now } from '../data/clock.ts';
import { Field } from '../parts/field.tsx';
import { Note } from '../parts/note.tsx';
import { longDayText, offsetTextAt, relativeText, timeText } from '../time/format.ts';
import {
  readFields,
  readWhen,
  whenTextOf,
  type WallInstant,
  type When,
  type WhenText,
} from '../time/when.ts';
import { isZone } from '../time/zone.ts';
import { Calendar } from './calendar.tsx';
import { Echo } from './echo.tsx';

interface Props {
  readonly value: WhenText;
  readonly onChange: (value: Partial<WhenText>) => void;
  /** What the server found wrong with the time. */
  readonly problem?: string | null;
}

/** Date, time and zone of an instant, what they mean, and a question where clocks are set forward or back. */
export function WhenFields({ value, onChange, problem = null }: Props) {
  const id = useId();
  const when = readWhen(value, now.value);
  const bad = (field: 'date' | 'time' | 'zone'): string | null =>
    when.kind === 'bad' && when.field === field && value[field] !== '' ? when.message : null;
  // On leaving a field `tomorrow` becomes its date, and `+2h` a time that no longer moves.
  const settle = (): void => {
    const found = isZone(value.zone.trim())
      ? readFields({ ...value, zone: value.zone.trim() }, now.value)
      : 'date';
    if (typeof found !== 'string') onChange({ ...found, zone: value.zone.trim() });
  };
  const type = (name: 'date' | 'time' | 'zone') => (text: string) =>
    onChange({ [name]: text, choice: '' });
  return (
    <>
      <div class="grid3">
        <Field
          {...{ label: 'Date', value: value.date, onText: type('date'), onLeave: settle }}
          {...{ problem: bad('date'), describedBy: id }}
        >
          <Calendar
            value={value}
            now={now.value}
            onChoose={(date) => onChange({ date, choice: '' })}
          />
        </Field>
        <Field
          {...{ label: 'Time', value: value.time, onText: type('time'), onLeave: settle }}
          {...{ problem: bad('time'), describedBy: id }}
        />
        <Field
          {...{ label: 'Time zone', value: value.zone, onText: type('zone'), list: 'zones' }}
          {...{ problem: bad('zone') }}
        />
      </div>
      <div id={id} class="stack">
        <Meaning {...{ value, when, onChange }} />
        {problem !== null && <Note tone="failed">{problem}</Note>}
      </div>
    </>
  );
}

function Meaning({
  value,
  when,
  onChange,
}: {
  readonly value: WhenText;
  readonly when: When;
  readonly onChange: (value: Partial<WhenText>) => void;
}) {
  const zone = value.zone.trim();
  switch (when.kind) {
    case 'bad':
      return null;
    case 'past':
      return (
        <Note tone="conflict">
          That was {relativeText(when.at, now.value)}: a schedule lies in the future.
        </Note>
      );
    case 'gap': {
      const take = ({ at }: WallInstant): void => onChange(whenTextOf(at, zone));
      return (
        <Note tone="conflict">
          <div class="stack">
            <span>
              There is no such time: clocks in {zone} are set forward on{' '}
              {longDayText(when.after.at, zone, now.value)}. Take
            </span>
            <div class="row" role="group" aria-label="Times around the gap">
              {[when.before, when.after].map((one) => (
                <button key={one.at} type="button" class="btn" onClick={() => take(one)}>
                  {one.time}, {offsetTextAt(one.at, zone)}
                </button>
              ))}
            </div>
          </div>
        </Note>
      );
    }
    case 'overlap':
      return (
        <Note tone="conflict">
          <div class="stack">
            <span>
              This time comes twice: clocks in {zone} are set back on{' '}
              {longDayText(when.first, zone, now.value)}. Which one?
            </span>
            <Twice
              {...{ zone, first: when.first, second: when.second, isSecond: null, onChange }}
            />
          </div>
        </Note>
      );
    case 'instant':
      return (
        <>
          <Echo at={when.at} zone={zone} />
          {when.isSecond !== null && <Chosen {...{ when, zone, onChange }} />}
        </>
      );
  }
}

function Chosen({
  when,
  zone,
  onChange,
}: {
  readonly when: { readonly at: number; readonly isSecond: boolean | null };
  readonly zone: string;
  readonly onChange: (value: Partial<WhenText>) => void;
}) {
  const both = readWhen({ ...whenTextOf(when.at, zone), choice: '' }, now.value);
  if (both.kind !== 'overlap') return null;
  const { first, second } = both;
  return <Twice {...{ zone, first, second, isSecond: when.isSecond, onChange }} />;
}

/** The two instants of one time, of which one is chosen. */
const Twice = (props: {
  readonly zone: string;
  readonly first: number;
  readonly second: number;
  readonly isSecond: boolean | null;
  readonly onChange: (value: Partial<WhenText>) => void;
}) => (
  <div class="row" role="group" aria-label="Which of the two times">
    {(['first', 'second'] as const).map((choice) => (
      <button
        {...{ key: choice, type: 'button', class: 'btn' }}
        aria-pressed={props.isSecond === null ? false : props.isSecond === (choice === 'second')}
        onClick={() => props.onChange({ choice })}
      >
        {choice === 'first' ? 'First' : 'Second'}, {timeText(props[choice], 'UTC')} UTC,{' '}
        {offsetTextAt(props[choice], props.zone)}
      </button>
    ))}
  </div>
);
