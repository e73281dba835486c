import { useState } from 'preact/hooks';
import { now } from '../data/clock.ts';
import { useResource } from '../data/resource.ts';
import { MarkIcon } from '../parts/marks.tsx';
import { Failure, Waiting } from '../parts/note.tsx';
import { SealTag } from '../parts/seal_tag.tsx';
import { link } from '../router.ts';
import { zone } from '../settings.ts';
import { shortText } from '../time/format.ts';
import { actorName, statusOfEvent, wordsOf } from '../trail/event_text.ts';
import { PLAN_EVENTS } from './documents.ts';

const FIRST = 10;
const MOST = 100;

/** What the trail has of a plan: who did what when, sealed by what. */
export function Events({ id }: { readonly id: string }) {
  const [first, setFirst] = useState(FIRST);
  const found = useResource(PLAN_EVENTS, { id, first });
  const events = found.data.value?.auditEvents ?? null;
  const time = (at: string): string => shortText(Date.parse(at), zone.value, now.value, 'second');
  return (
    <section class="card" aria-labelledby="events">
      <header>
        <h2 id="events">In the trail</h2>
      </header>
      <Failure isPart error={found.error} refetch={found.refetch} />
      {events === null && found.error.value === null && <Waiting rows={3} />}
      <ol class="hist">
        {events?.nodes.map((event) => {
          const { title, rest } = wordsOf(event, time);
          return (
            <li key={event.id}>
              <time class="when small" dateTime={event.occurredAt}>
                {time(event.occurredAt)}
              </time>
              <MarkIcon status={statusOfEvent(event)} />
              <div class="what row between">
                <span>
                  <strong>{title}</strong> {rest}{' '}
                  <span class="small muted">by {actorName(event)}</span>
                </span>
                <a class="push" href={link(`/trail/${event.id}`)}>
                  <SealTag seal={event.seal} />
                </a>
              </div>
            </li>
          );
        })}
      </ol>
      {events?.pageInfo.hasNextPage === true && first < MOST && (
        <p class="more">
          <button type="button" class="link" onClick={() => setFirst(MOST)}>
            Show earlier
          </button>
        </p>
      )}
    </section>
  );
}
