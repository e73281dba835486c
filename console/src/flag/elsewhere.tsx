import { environments, isAdmin, me } from '../data/person.ts';
import { useResource } from '../data/resource.ts';
import { CopyButton } from '../parts/copy.tsx';
import { EnvironmentTag } from '../parts/environment.tsx';
import { dottedState } from '../parts/flag_state.tsx';
import { Time } from '../parts/time.tsx';
import { here, link } from '../router.ts';
import { EVERYWHERE } from './documents.ts';

interface Props {
  readonly environment: string;
  readonly flagKey: string;
}

const pathOf = (environment: string, flagKey: string): string =>
  link(`/flags/${encodeURIComponent(environment)}/${encodeURIComponent(flagKey)}`, {
    env: environment,
    sel: null,
  });

/** The environments that have a flag of this key, in the order of the others. */
function useEnvironments(flagKey: string) {
  const nodes = useResource(EVERYWHERE, { flagKey }).data.value?.featureFlags?.nodes ?? [];
  const place = (name: string): number => environments.value.indexOf(name);
  return nodes.toSorted((a, b) => place(a.environment) - place(b.environment));
}

/** The same flag in other environments. */
export function Tabs({ environment, flagKey }: Props) {
  const found = useEnvironments(flagKey);
  if (found.length < 2) return null;
  return (
    <nav class="tabs" aria-label="This flag in each environment">
      {found.map((flag) => (
        <a
          {...{ key: flag.id, href: pathOf(flag.environment, flagKey) }}
          {...(flag.environment === environment ? { 'aria-current': 'page' as const } : {})}
        >
          {flag.environment}
        </a>
      ))}
    </nav>
  );
}

/** What it is set to there. */
export function Elsewhere({ environment, flagKey }: Props) {
  const others = useEnvironments(flagKey).filter((flag) => flag.environment !== environment);
  if (others.length === 0) return null;
  return (
    <section class="card" aria-labelledby="elsewhere">
      <header>
        <h2 id="elsewhere">In other environments</h2>
      </header>
      <ul class="next elsewhere">
        {others.map((flag) => (
          <li key={flag.id}>
            <EnvironmentTag name={flag.environment} />
            <span>
              {dottedState(flag)}
              {flag.lastChange !== null && (
                <span class="muted">
                  {' '}
                  since <Time at={flag.lastChange.at} />
                </span>
              )}
            </span>
            <a href={pathOf(flag.environment, flagKey)}>
              Open<span class="vh"> {flag.environment}</span>
            </a>
          </li>
        ))}
      </ul>
    </section>
  );
}

/** For those who can't change it: what they are. For all: the page's address. */
export const WhoCan = () =>
  isAdmin.value ? (
    <div class="row">
      <CopyButton text={location.origin + here()}>Copy link to this page</CopyButton>
    </div>
  ) : (
    <section class="card" aria-labelledby="who-can">
      <header>
        <h2 id="who-can">Who can change this</h2>
      </header>
      <div class="body stack">
        <p>
          You can look, not change: you are {me.value?.role === 'auditor' ? 'an' : 'a'}{' '}
          <strong>{me.value?.role}</strong> of {environments.value.join(' and ')}. An admin can
          change it.
        </p>
        <div class="row">
          <CopyButton text={location.origin + here()}>Copy link to this page</CopyButton>
        </div>
      </div>
    </section>
  );
