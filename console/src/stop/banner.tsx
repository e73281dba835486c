import { graphql } from '../data/documents.ts';
import { isAdmin, shortName } from '../data/person.ts';
import { useResource } from '../data/resource.ts';
import { Icon } from '../parts/icons.tsx';
import { Time } from '../parts/time.tsx';
import { link, path } from '../router.ts';
import { stops, useStops, type Stop } from './stops.ts';

/** How many changes wait for the resume. */
const WAITING = graphql(`
  query Waiting($environment: String!) {
    featureFlagSchedules(
      condition: { environment: $environment, status: "suspended" }
      first: 100
    ) {
      totalCount
      nodes {
        id
        suspendedFor
      }
    }
  }
`);

export const resumePath = (environment: string): string =>
  link(`/resume/${encodeURIComponent(environment)}`);

/** Which environments are paused: on every page, for everybody who reads them. The sentences are said once; the rest is no news. */
export function StopBanner() {
  useStops();
  const found = stops.value;
  return (
    <section
      {...(found.length > 0 ? { class: 'ban banner', 'aria-label': 'Paused' } : { class: 'ban' })}
    >
      {found.length > 0 && <Icon name="stop" />}
      <div role="status">
        {found.map((stop) => (
          <p key={stop.name}>
            <Sentence stop={stop} />
          </p>
        ))}
      </div>
      {found.map(({ name }) => (
        <Waiting key={name} name={name} isOnly={found.length === 1} />
      ))}
    </section>
  );
}

function Sentence({ stop: { name, stoppedAt, stoppedBy, stopReason } }: { readonly stop: Stop }) {
  const by = shortName(stoppedBy);
  return (
    <>
      <strong>{name} is paused</strong> since <Time at={stoppedAt} />
      {by !== '' && ` by ${by}`}
      {typeof stopReason === 'string' && `: “${stopReason}”`}.
    </>
  );
}

/** How much waits there, and for admins the way on. */
function Waiting({ name, isOnly }: { readonly name: string; readonly isOnly: boolean }) {
  const found = useResource(WAITING, { environment: name }).data.value?.featureFlagSchedules;
  const count = (found?.nodes ?? []).filter(({ suspendedFor }) => suspendedFor === 'stop').length;
  const more = (found?.totalCount ?? 0) > 100 ? '+' : '';
  const at = `/resume/${encodeURIComponent(name)}`;
  return (
    <>
      {count > 0 && (
        <span>
          {count}
          {more} {count === 1 ? 'change waits' : 'changes wait'}
          {!isOnly && ` in ${name}`}.
        </span>
      )}
      {isAdmin.value && path.value !== at && (
        <a class="btn" href={resumePath(name)}>
          Resume{isOnly ? '' : ` ${name}`}…
        </a>
      )}
    </>
  );
}
