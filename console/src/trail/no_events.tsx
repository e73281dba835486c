import { environments } from '../data/person.ts';
import { param, setParams } from '../router.ts';
import { withFilter } from '../search.ts';
import { numberText } from './list.tsx';

interface Props {
  /** The environment that the search is narrowed to. */
  readonly where: string | undefined;
  /** Events of the trail; null where that isn't known. */
  readonly total: string | null;
  /** Whether there are older events that the page hasn't looked at. */
  readonly hasMore: boolean;
}

/** A search that finds nothing: where it has looked, and where one may look on. */
export const NoEvents = ({ where, total, hasMore }: Props) => (
  <p class="more">
    {hasMore
      ? 'No event matches yet.'
      : `No event${where === undefined ? '' : ` of ${where}`} matches${
          total === null ? '' : `; ${numberText(total)} in the trail`
        }.`}
    {where !== undefined && environments.value.length > 1 && (
      <button
        type="button"
        class="link"
        onClick={() => setParams({ q: withFilter(param('q'), 'env', 'all') })}
      >
        Search all environments
      </button>
    )}
    {param('q') !== '' && (
      <button type="button" class="link" onClick={() => setParams({ q: null })}>
        Show all
      </button>
    )}
  </p>
);
