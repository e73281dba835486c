import { useEffect } from 'preact/hooks';
import { announce } from '../announce.ts';
import { now } from '../data/clock.ts';
import { useResource } from '../data/resource.ts';
import { Failure, Note, Waiting } from '../parts/note.tsx';
import { link } from '../router.ts';
import { shortText } from '../time/format.ts';
import { Chain } from './chain_list.tsx';
import { EVENT, type WholeEvent } from './documents.ts';
import { actorName, headingOf } from './event_text.ts';
import { Fields } from './fields.tsx';
import { Hashed } from './hashed.tsx';
import { numberText, rowTime } from './list.tsx';
import { Proof } from './proof.tsx';

function Facts({ event }: { readonly event: WholeEvent }) {
  const facts: (readonly [string, preact.ComponentChildren])[] = [
    ['By', `${actorName(event)}${event.adminEmail === null ? '' : ` (${event.adminEmail})`}`],
    ['Type', <code>{event.eventType}</code>],
    ['Level', event.level],
  ];
  if (event.flagKey !== null && event.environment !== null)
    facts.push([
      'Flag',
      <>
        <a
          href={link(
            `/flags/${encodeURIComponent(event.environment)}/${encodeURIComponent(event.flagKey)}`,
          )}
        >
          {event.flagKey}
        </a>{' '}
        in {event.environment}
      </>,
    ]);
  if (event.requestId !== null)
    facts.push([
      'Request',
      <a href={link('/trail', { q: `request:${event.requestId}` })}>
        <code>{event.requestId}</code>
      </a>,
    ]);
  if (event.clientRequestId !== null)
    facts.push(['Client’s', <code>{event.clientRequestId}</code>]);
  if (event.reconciled) facts.push(['Written', 'afterwards: it could not be written at the time']);
  return (
    <dl class="dl">
      {facts.map(([name, value]) => [
        <dt key={`${name} name`}>{name}</dt>,
        <dd key={name}>{value}</dd>,
      ])}
    </dl>
  );
}

/**
 * The event of an address.
 *
 * @param looks a number that grows as the trail does: until the event is sealed it is asked for again
 */
export function useEvent(id: string, looks: number) {
  const isId = /^[0-9a-f-]{36}$/i.test(id);
  const found = useResource(EVENT, isId ? { id } : null);
  const event = found.data.value?.auditEvents?.nodes[0] ?? null;
  useEffect(() => {
    if (event !== null && event.seal === null) void found.refetch();
  }, [looks]);
  return { found, event, isId };
}

interface Props {
  readonly opened: ReturnType<typeof useEvent>;
  readonly onClose: () => void;
}

/** The opened event: what led to it, what it changed, and its proof. */
export function EventCard({ opened: { found, event, isId }, onClose }: Props) {
  const heading = event === null ? '' : headingOf(event, rowTime);
  useEffect(() => {
    if (heading === '') return;
    announce(heading);
    // On a narrow screen the row that had the focus is hidden.
    if (document.activeElement === document.body) document.getElementById('opened')?.focus();
  }, [heading]);
  if (event === null)
    return (
      <section class="card" aria-label="Opened event">
        <div class="body stack">
          <Failure error={found.error} refetch={found.refetch} />
          {found.data.value === null && isId ? (
            found.error.value === null && <Waiting />
          ) : (
            <p>No event has this id, or it isn’t of an environment that you may see.</p>
          )}
          <div class="row">
            <button type="button" class="btn" onClick={onClose}>
              Close
            </button>
          </div>
        </div>
      </section>
    );
  const at = Date.parse(event.occurredAt);
  return (
    <section class="card" aria-labelledby="opened">
      <header class="between">
        <button type="button" class="btn back" onClick={onClose}>
          ‹ Trail
        </button>
        <h2 id="opened" tabIndex={-1}>
          {heading}
        </h2>
        <span class="small muted">
          {event.seq === null ? 'event' : `event ${numberText(event.seq)}`} ·{' '}
          {shortText(at, 'UTC', now.value, 'millisecond')} UTC
        </span>
      </header>
      <div class="body stack">
        <Failure error={found.error} refetch={found.refetch} />
        {typeof event.seal?.problem === 'string' && (
          <Note tone="failed">
            <strong>This isn’t what was sealed</strong> ({event.seal.problem}): somebody changed the
            event in the database. What was sealed stands in the copy outside.
          </Note>
        )}
        <Chain event={event} />
        <Fields event={event} />
        <Facts event={event} />
        <Proof event={event} />
        <Hashed event={event} />
        <div class="row">
          <button type="button" class="btn" onClick={onClose}>
            Close
          </button>
        </div>
      </div>
    </section>
  );
}
