import { computed, signal } from '@preact/signals';
import type { ResultOf } from 'gql.tada';
import { useEffect } from 'preact/hooks';
import { graphql } from '../data/documents.ts';
import { environments, isAdmin, readsTrail, shownEnvironments } from '../data/person.ts';
import { useResource } from '../data/resource.ts';

/** Which environments are paused. Viewers get no persons and no reasons, as the page asks for none. */
const STOPS = graphql(`
  query Stops($asks: Boolean!) {
    environments(first: 100) {
      nodes {
        name
        stoppedAt
        stoppedBy @include(if: $asks)
        stopReason @include(if: $asks)
      }
    }
  }
`);

type Environment = NonNullable<ResultOf<typeof STOPS>['environments']>['nodes'][number];

/** An environment in which no schedule is applied until someone resumes it. */
export type Stop = Environment & { readonly stoppedAt: string };

const isStop = (found: Environment): found is Stop => found.stoppedAt !== null;

/** Those of the environments that the person sees, by name. */
export const stops = signal<readonly Stop[]>([]);

export const isStopped = (environment: string): boolean =>
  stops.value.some(({ name }) => name === environment);

/** The environments that the person may pause, and that go on. */
export const running = computed((): readonly string[] =>
  isAdmin.value ? environments.value.filter((name) => !isStopped(name)) : [],
);

/** Of what is shown: paused environments, where all of it is paused. */
export const shownStop = computed((): string | null => {
  const shown = shownEnvironments.value;
  return shown.length > 0 && shown.every(isStopped) ? (shown[0] ?? null) : null;
});

/** Takes what a mutation has answered: the person need not be live to see what came of it. */
export function learnStop(found: Environment | null | undefined): void {
  if (found === null || found === undefined) return;
  const others = stops.value.filter(({ name }) => name !== found.name);
  stops.value = [...others, ...[found].filter(isStop)].sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** Follows which environments are paused, once for the whole page. */
export function useStops(): void {
  const { data, refetch } = useResource(STOPS, { asks: readsTrail.value });
  const answer = data.value;
  useEffect(() => {
    stops.value = (answer?.environments?.nodes ?? []).filter(isStop);
  }, [answer]);
  useEffect(() => {
    const look = (): void => {
      if (!document.hidden) void refetch();
    };
    document.addEventListener('visibilitychange', look);
    return () => document.removeEventListener('visibilitychange', look);
  }, [refetch]);
}
