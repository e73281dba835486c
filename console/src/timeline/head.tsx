import type { RefObject } from 'preact';
import { chosenEnvironment, isAdmin } from '../data/person.ts';
import { link, param, setParams } from '../router.ts';
import { followNow, isFollowing, move, span, SPANS, zoomTo } from './range.ts';

/** The form that schedules a change, in the environment that is shown. */
export const schedulePath = (): string =>
  link('/flags', { form: 'schedule', env: chosenEnvironment.value });

/** Title, range, zoom and filter. */
export function Head({ search }: { readonly search: RefObject<HTMLInputElement | null> }) {
  return (
    <div class="head">
      <h1>Timeline</h1>
      {isAdmin.value && (
        <a class="btn primary mobonly push" href={schedulePath()}>
          Schedule
        </a>
      )}
      <span class="row nowrap" role="group" aria-label="Range">
        <button type="button" class="btn" aria-label="Earlier" onClick={() => move(-1)}>
          ‹
        </button>
        <button type="button" class="btn" aria-pressed={isFollowing.value} onClick={followNow}>
          Now
        </button>
        <button type="button" class="btn" aria-label="Later" onClick={() => move(1)}>
          ›
        </button>
      </span>
      <span class="seg" role="group" aria-label="Zoom">
        {SPANS.map(([name, text, ms]) => (
          <button
            key={name}
            type="button"
            aria-pressed={ms === span.value}
            onClick={() => zoomTo(name, ms)}
          >
            {text}
          </button>
        ))}
      </span>
      <span class="deskonly grow" />
      <input
        {...{ ref: search, class: 'input search deskonly', type: 'search', value: param('q') }}
        {...{ 'aria-label': 'Filter', placeholder: 'Filter, such as is:failed' }}
        onInput={({ currentTarget }) => setParams({ q: currentTarget.value })}
      />
      <a class="btn deskonly" href="#table">
        As a table
      </a>
      {isAdmin.value && (
        <a class="btn primary deskonly" href={schedulePath()}>
          Schedule a change
        </a>
      )}
    </div>
  );
}
