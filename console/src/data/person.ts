import { computed, signal } from '@preact/signals';
import type { ResultOf } from 'gql.tada';
import { param } from '../router.ts';
import { graphql } from './documents.ts';
import { run } from './request.ts';

const PERSON = graphql(`
  query Person {
    me {
      userId
      email
      role
      environments
      expiresAt
      mayProve
    }
    environments(first: 100) {
      nodes {
        name
      }
    }
  }
`);

type Me = ResultOf<typeof PERSON>['me'];

/** Who is signed in; null until the server has said. */
export const me = signal<Me | null>(null);
/** The environments that the token may see, production first. */
export const environments = signal<readonly string[]>([]);

/** @throws ApiError */
export async function loadPerson(): Promise<void> {
  const found = await run(PERSON, {});
  const names = found.environments?.nodes.map(({ name }) => name) ?? [];
  environments.value = names.toSorted(
    (a, b) => Number(b === 'production') - Number(a === 'production') || a.localeCompare(b),
  );
  me.value = found.me;
}

/** The part of an e-mail address before the @, or the user id: as people call each other. */
export const shortName = (name: string | null | undefined): string =>
  (name ?? '').replace(/@.*$/, '');

export const isAdmin = computed(() => me.value?.role === 'admin');
/** Whether the person may read the trail. */
export const readsTrail = computed(
  () => me.value?.role === 'admin' || me.value?.role === 'auditor',
);

/** What the address says, `all` or an environment's name; the first one otherwise. */
export const environment = computed(() => {
  const asked = param('env');
  const names = environments.value;
  if (asked === 'all' && names.length > 1) return 'all';
  return names.includes(asked) ? asked : (names[0] ?? '');
});

/** The environments that the page shows. */
export const shownEnvironments = computed((): readonly string[] =>
  environment.value === 'all'
    ? environments.value
    : environment.value === ''
      ? []
      : [environment.value],
);

/** The environment that something new is made in. */
export const chosenEnvironment = computed(() =>
  environment.value === 'all' ? (environments.value[0] ?? '') : environment.value,
);
