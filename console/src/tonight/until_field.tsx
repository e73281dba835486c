import { useEffect, useState } from 'preact/hooks';
import { now } from '../data/clock.ts';
import { param, setParams } from '../router.ts';
import { zone } from '../settings.ts';
import { untilParam, untilText } from './until.ts';

/** The end of the list: typed, and in the address. */
export function UntilField({ isBad }: { readonly isBad: boolean }) {
  const asked = param('until');
  const shown = untilText(asked, zone.value);
  const [text, setText] = useState(shown);
  useEffect(() => setText(shown), [shown]);
  const put = (): void => {
    if (text !== shown) setParams({ until: untilParam(text, zone.value, now.value) });
  };
  return (
    <form
      class="row nowrap until"
      onSubmit={(event) => {
        event.preventDefault();
        put();
      }}
    >
      <label htmlFor="until">Until</label>
      <input
        {...{ id: 'until', class: 'input', type: 'text', value: text, placeholder: '08:00' }}
        {...{ autoComplete: 'off', spellcheck: false }}
        {...(isBad ? { 'aria-invalid': 'true' as const, 'aria-describedby': 'until-bad' } : {})}
        onInput={({ currentTarget }) => setText(currentTarget.value)}
        onBlur={put}
      />
    </form>
  );
}
