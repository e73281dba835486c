import { useEffect } from 'preact/hooks';
import type { FieldProblem } from '../data/field_problems.ts';
import type { check, Checked } from './check.ts';

let loaded: typeof check | null = null;

/** The API's schemas, loaded with the first form. Until they are there, or where they can't be loaded, the server alone judges. */
export function useCheck(): (kind: Checked, body: unknown) => readonly FieldProblem[] {
  useEffect(() => {
    if (loaded === null)
      import('./check.ts').then(
        (found) => (loaded = found.check),
        () => undefined,
      );
  }, []);
  return (kind, body) => loaded?.(kind, body) ?? [];
}
