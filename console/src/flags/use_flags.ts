import { useMemo, useState } from 'preact/hooks';
import { now } from '../data/clock.ts';
import { readsTrail } from '../data/person.ts';
import { useFirstError, useResource, useResources } from '../data/resource.ts';
import { useLater } from '../parts/use_later.ts';
import { DAY } from '../time/zone.ts';
import { AHEAD, FLAGS } from './documents.ts';
import { matches, rowsOf, serverFilter, type FlagRow } from './model.ts';

/** How long a failure stands among what needs someone. */
const FAILED_DAYS = 14;
/** The flags of an environment that the filter lets through, as far as their pages are loaded. */
export function useFlags(environment: string, filter: string) {
  const asks = readsTrail.value;
  const since = new Date((Math.floor(now.value / DAY) - FAILED_DAYS) * DAY).toISOString();
  const head = useResource(AHEAD, { environment, since, asks });
  const asked = serverFilter(useLater(filter));
  const key = JSON.stringify(asked);
  // The cursors of the pages behind the first; they belong to what was asked.
  const [behind, setBehind] = useState<{ key: string; cursors: readonly string[] }>({
    key,
    cursors: [],
  });
  const cursors = behind.key === key ? behind.cursors : [];
  const pages = useResources(
    FLAGS,
    [null, ...cursors].map((after) => ({
      ...{ environment, asks, ...asked },
      ...(after === null ? {} : { after }),
    })),
  );
  const error = useFirstError([head, ...pages]);
  const answers = pages.map(({ data }) => data.value?.featureFlags ?? null);
  const ahead = head.data.value;
  const rows = useMemo((): readonly FlagRow[] | null => {
    if (ahead === null || answers[0] === null) return null;
    return rowsOf({
      failed: ahead.failed?.nodes ?? [],
      suspended: ahead.suspended?.nodes ?? [],
      pending: ahead.pending?.nodes ?? [],
      flags: answers.flatMap((answer) => answer?.nodes ?? []),
    });
  }, [ahead, ...answers]);
  const last = answers.at(-1) ?? null;
  const cursor = last?.pageInfo.hasNextPage === true ? last.pageInfo.endCursor : null;
  return {
    error,
    refetch: async (): Promise<void> => {
      await Promise.all([head, ...pages].map((one) => one.refetch()));
    },
    rows: rows?.filter((row) => matches(row, filter)) ?? null,
    /** Of the environment, without the filter. */
    total: ahead?.all?.totalCount ?? 0,
    /** Flags with a change ahead; `isLeast` where more may come. */
    changing: rows?.filter(({ group }) => group !== 'rest').length ?? 0,
    isLeast: cursor !== null && (ahead?.pending?.totalCount ?? 0) > 100,
    /** Loads the next page; null where there is none. */
    more: cursor === null ? null : () => setBehind({ key, cursors: [...cursors, cursor] }),
  };
}

export type FoundFlags = ReturnType<typeof useFlags>;
