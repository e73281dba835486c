import type { RefObject } from 'preact';
import { useEffect, useRef } from 'preact/hooks';
import { announce } from '../announce.ts';
import { chosenEnvironment, isAdmin, shownEnvironments } from '../data/person.ts';
import { useKeys } from '../keys.ts';
import { Dialog } from '../parts/dialog.tsx';
import { Failure, Note, Waiting } from '../parts/note.tsx';
import { link, navigate, param, setParams, withParams } from '../router.ts';
import { ScheduleForm } from '../schedules/form.tsx';
import { parseSearch } from '../search.ts';
import { FilterBar } from './filter_bar.tsx';
import { FILTERS } from './model.ts';
import { NewFlag } from './new_flag.tsx';
import { Nothing } from './nothing.tsx';
import { openForm } from './open_form.ts';
import { FlagTable } from './table.tsx';
import { useFlags, type FoundFlags } from './use_flags.ts';

const closeForm = (): void => setParams({ form: null });

/** Moves the focus from row to row. */
function step(direction: 1 | -1): void {
  const rows = [...document.querySelectorAll<HTMLElement>('[data-row]')];
  const at = rows.indexOf(document.activeElement as HTMLElement);
  const next = rows[at < 0 ? (direction > 0 ? 0 : rows.length - 1) : at + direction];
  next?.focus();
  next?.scrollIntoView({ block: 'nearest' });
}

/** All flags: what needs someone first, then by what comes next. To change one, one opens it. */
export function FlagsPage() {
  const search = useRef<HTMLInputElement>(null);
  const filter = param('q');
  const form = isAdmin.value ? param('form') : '';
  useKeys({
    '/': () => search.current?.focus(),
    j: () => step(1),
    k: () => step(-1),
    ...(isAdmin.value ? { n: () => openForm('schedule') } : {}),
    Escape: () => setParams({ q: null }),
  });
  return (
    <>
      {shownEnvironments.value.map((environment, i) => (
        <Environment key={environment} {...{ environment, filter, isFirst: i === 0, search }} />
      ))}
      {form === 'flag' && <NewFlag environment={chosenEnvironment.value} onClose={closeForm} />}
      {form === 'schedule' && (
        <Dialog title="Schedule a change" onClose={closeForm}>
          <ScheduleForm
            {...{ environment: chosenEnvironment.value, flagKey: null, onClose: closeForm }}
            onDone={({ environment, flagKey }) =>
              navigate(
                link(`/flags/${encodeURIComponent(environment)}/${encodeURIComponent(flagKey)}`, {
                  env: environment,
                }),
                { replace: true },
              )
            }
          />
        </Dialog>
      )}
    </>
  );
}

interface Props {
  readonly environment: string;
  readonly filter: string;
  /** It has the page's heading and its filter. */
  readonly isFirst: boolean;
  readonly search: RefObject<HTMLInputElement | null>;
}

function Environment({ environment, filter, isFirst, search }: Props) {
  const found = useFlags(environment, filter);
  const { rows, total } = found;
  useEffect(() => {
    if (rows !== null && filter !== '') announce(`${rows.length} flags in ${environment}`);
  }, [rows?.length, filter]);
  return (
    <>
      {isFirst ? (
        <Head {...{ environment, found, filter }} />
      ) : (
        <h2 class="next-env">{countText(found, environment, filter)}</h2>
      )}
      {isFirst &&
        parseSearch(filter, FILTERS).unknown.map((what) => (
          <Note key={what} tone="quiet">
            unknown: {what}
          </Note>
        ))}
      <Failure error={found.error} refetch={found.refetch} />
      <section class="card" aria-label={`Flags of ${environment}`}>
        {isFirst && (rows === null || total > 0 || filter !== '') && (
          <FilterBar search={search} filter={filter} />
        )}
        {rows === null ? (
          <Waiting rows={10} />
        ) : total === 0 ? (
          <Nothing environment={environment} />
        ) : rows.length === 0 && found.more === null ? (
          <p class="more">
            No flag matches; {total} without the filter.{' '}
            <a href={withParams({ q: null })}>Show all</a>
          </p>
        ) : (
          <FlagTable {...{ environment, rows, more: found.more }} />
        )}
      </section>
    </>
  );
}

/** How many flags there are, and how many of them change or are shown. */
function countText(
  { rows, total, changing, isLeast, more }: FoundFlags,
  environment: string,
  filter: string,
): string {
  if (rows === null) return '';
  return filter === ''
    ? `${total} in ${environment}, ${isLeast ? 'at least ' : ''}${changing} with changes ahead`
    : `${rows.length}${more === null ? '' : ' so far'} of ${total} in ${environment}`;
}

const Head = ({
  environment,
  found,
  filter,
}: {
  readonly environment: string;
  readonly found: FoundFlags;
  readonly filter: string;
}) => (
  <div class="head">
    <h1>Flags</h1>
    <span class="muted">{countText(found, environment, filter)}</span>
    <span class="grow deskonly" />
    {isAdmin.value && (
      <span class="row push">
        <button type="button" class="btn deskonly" onClick={() => openForm('schedule')}>
          Schedule a change
        </button>
        <button type="button" class="btn primary" onClick={() => openForm('flag')}>
          New flag…
        </button>
      </span>
    )}
  </div>
);
