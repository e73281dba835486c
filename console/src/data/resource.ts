import { signal, useComputed, type ReadonlySignal, type Signal } from '@preact/signals';
import type { TadaDocumentNode } from 'gql.tada';
import { useEffect } from 'preact/hooks';
import { sourceOf } from './documents.ts';
import { type ApiError, errorOf, run } from './request.ts';

/** What one document with its variables answers: the last good answer stays while it is asked again, or can't be. */
export interface Resource<T> {
  readonly data: ReadonlySignal<T | null>;
  readonly error: ReadonlySignal<ApiError | null>;
  readonly loading: ReadonlySignal<boolean>;
  /** Asks again; an answer to an earlier question that comes later is dropped. */
  readonly refetch: () => Promise<void>;
}

interface Entry extends Resource<unknown> {
  users: number;
  /** Whether its last user has gone, and no other is about to come. */
  isLeft: boolean;
  readonly data: Signal<unknown>;
}

/** By document and variables. What is shown nowhere stays for the way back, the oldest go. */
const entries = new Map<string, Entry>();
const MOST_ENTRIES = 60;

function entryOf<Result, Variables>(
  document: TadaDocumentNode<Result, Variables>,
  variables: Variables,
): Entry {
  const key = `${sourceOf(document)} ${JSON.stringify(variables)}`;
  const found = entries.get(key);
  if (found !== undefined) {
    found.isLeft = false;
    return found;
  }
  const data = signal<unknown>(null);
  const error = signal<ApiError | null>(null);
  const loading = signal(false);
  let asked = 0;
  let shown = 0;
  /** Whether an answer is newer than what is shown: a question that was asked later may be answered sooner. */
  const isNews = (question: number): boolean => {
    if (question < shown) return false;
    shown = question;
    loading.value = question < asked;
    return true;
  };
  const refetch = async (): Promise<void> => {
    const question = (asked += 1);
    loading.value = true;
    try {
      const answer = await run(document, variables);
      if (!isNews(question)) return;
      data.value = answer;
      error.value = null;
    } catch (failure) {
      if (!isNews(question)) return;
      error.value = errorOf(failure);
    }
  };
  const made: Entry = { data, error, loading, refetch, users: 0, isLeft: false };
  entries.set(key, made);
  return made;
}

/** Takes entries into use, and asks for what they answer. */
function use(list: readonly Entry[]): () => void {
  for (const entry of list) {
    entry.users += 1;
    void entry.refetch();
  }
  return () => {
    for (const entry of list) {
      entry.users -= 1;
      entry.isLeft = entry.users === 0;
    }
    // A page of many environments needs more entries than are kept, so none goes that was only just made.
    for (const [key, { isLeft }] of entries)
      if (entries.size > MOST_ENTRIES && isLeft) entries.delete(key);
  };
}

/**
 * The answer of a document in a component: asked for when the component comes, and again by `refetchAll`.
 *
 * @param variables null: nothing is asked yet
 */
export function useResource<Result, Variables>(
  document: TadaDocumentNode<Result, Variables>,
  variables: Variables | null,
): Resource<Result> {
  const entry = variables === null ? NOTHING : entryOf(document, variables);
  useEffect(() => (entry === NOTHING ? undefined : use([entry])), [entry]);
  return entry as Resource<Result>;
}

const NOTHING: Entry = {
  ...{ data: signal(null), error: signal(null), loading: signal(false) },
  ...{ users: 0, isLeft: false },
  refetch: () => Promise.resolve(),
};

/** The same for several values of variables, as one document for each of several environments: answers in their order. */
export function useResources<Result, Variables>(
  document: TadaDocumentNode<Result, Variables>,
  list: readonly Variables[],
): readonly Resource<Result>[] {
  const found = list.map((variables) => entryOf(document, variables));
  useEffect(() => use(found), found);
  return found as Resource<Result>[];
}

/** The first error of several resources. */
export const useFirstError = (
  resources: readonly Resource<unknown>[],
): ReadonlySignal<ApiError | null> =>
  useComputed(
    () => resources.map(({ error }) => error.value).find((error) => error !== null) ?? null,
  );

/** Asks again for several. */
export async function refetchEach(resources: readonly Resource<unknown>[]): Promise<void> {
  await Promise.all(resources.map(({ refetch }) => refetch()));
}

/** Asks again for all that is shown. */
export async function refetchAll(): Promise<void> {
  await refetchEach([...entries.values()].filter(({ users }) => users > 0));
}

/** Drops all answers, as when another person signs in. */
export const forgetAll = (): void => entries.clear();
