import { signal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { readsTrail, shownEnvironments } from '../data/person.ts';
import { useResources } from '../data/resource.ts';
import { PLAN_TITLES } from './documents.ts';
import type { Mark } from './model.ts';

/** By the plan's id. Empty for viewers. */
export const planTitles = signal<ReadonlyMap<string, string>>(new Map());

/** Asks what plans are called where a change in view belongs to one. */
export function usePlanTitles(marks: readonly Mark[]): void {
  const isAsked = readsTrail.value && marks.some(({ planId }) => planId !== null);
  const found = useResources(
    PLAN_TITLES,
    isAsked ? shownEnvironments.value.map((environment) => ({ environment })) : [],
  );
  const answers = found.map(({ data }) => data.value);
  useEffect(() => {
    planTitles.value = new Map(
      answers.flatMap((answer) =>
        (answer?.plans?.nodes ?? []).map(({ id, title }): [string, string] => [id, title]),
      ),
    );
  }, answers);
}

/** The titles of the plans that changes belong to, as `Black Friday`; '' where they belong to none, or it isn't known. */
export const plansOf = (marks: readonly Pick<Mark, 'planId'>[]): string =>
  [...new Set(marks.flatMap(({ planId }) => planTitles.value.get(planId ?? '') ?? []))].join(', ');
