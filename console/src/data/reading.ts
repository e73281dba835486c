import { useSignal, type ReadonlySignal } from '@preact/signals';
import type { TadaDocumentNode } from 'gql.tada';
import { useEffect } from 'preact/hooks';
import { type ApiError, errorOf, run } from './request.ts';

export interface Reading<T> {
  readonly data: ReadonlySignal<T | null>;
  readonly error: ReadonlySignal<ApiError | null>;
  /** Reads it again. */
  readonly read: () => Promise<void>;
}

/** The answer of a document as of when the component came, or read again: unlike a resource's it changes at no other time. */
export function useReading<Result, Variables>(
  document: TadaDocumentNode<Result, Variables>,
  variables: Variables,
): Reading<Result> {
  const data = useSignal<Result | null>(null);
  const error = useSignal<ApiError | null>(null);
  const read = async (): Promise<void> => {
    try {
      data.value = await run(document, variables);
      error.value = null;
    } catch (failure) {
      error.value = errorOf(failure);
    }
  };
  useEffect(() => void read(), []);
  return { data, error, read };
}
