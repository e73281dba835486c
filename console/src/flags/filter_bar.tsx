import type { RefObject } from 'preact';
import { setParams, withParams } from '../router.ts';
import { withFilter } from '../search.ts';

const TRY = ['failed', 'pending', 'on', 'off'] as const;

/** The filter's text is the address's `q`; the links only write into it. */
export const FilterBar = ({
  search,
  filter,
}: {
  readonly search: RefObject<HTMLInputElement | null>;
  readonly filter: string;
}) => (
  <div class="bar">
    <input
      {...{ ref: search, class: 'input', type: 'search', value: filter }}
      {...{ 'aria-label': 'Filter flags', placeholder: 'Key, or is:failed' }}
      autoCapitalize="off"
      onInput={({ currentTarget }) => setParams({ q: currentTarget.value })}
      onKeyDown={({ key, currentTarget }) => key === 'Escape' && currentTarget.blur()}
    />
    <span class="row try">
      <span class="muted deskonly">Try</span>
      {TRY.map((value) => (
        <a key={value} href={withParams({ q: withFilter(filter, 'is', value) })}>
          is:{value}
        </a>
      ))}
    </span>
  </div>
);
