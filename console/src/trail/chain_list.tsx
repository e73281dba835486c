import { useResource } from '../data/resource.ts';
import { Icon } from '../parts/icons.tsx';
import { MarkIcon } from '../parts/marks.tsx';
import { Failure } from '../parts/note.tsx';
import { ClockTime } from '../parts/time.tsx';
import { isPlain } from '../router.ts';
import { chainOf, type Link } from './chain.ts';
import { CHAIN, type TrailEvent, type WholeEvent } from './documents.ts';
import { statusOfEvent } from './event_text.ts';
import { eventInList, numberText, openEvent, rowTime } from './list.tsx';

/** A request's events are of its moment: so only a little of the trail is read for them. */
const AROUND_MS = 3_600_000;

function Step({ step: { event, isThis, by, did, reason } }: { readonly step: Link }) {
  const number = event.seq === null ? 'event' : numberText(event.seq);
  return (
    <li class={isThis ? 'here' : ''}>
      <MarkIcon status={statusOfEvent(event)} />
      <div>
        {by !== '' && <strong>{by} </strong>}
        {did}
        {reason !== null && <> “{reason}”</>}
        {isThis ? (
          ', this event'
        ) : (
          <>
            {' '}
            <a
              class="small"
              href={eventInList(event.id)}
              onClick={(click) => {
                if (!isPlain(click)) return;
                click.preventDefault();
                openEvent(event.id);
              }}
            >
              {number}
            </a>
          </>
        )}
      </div>
      <span class="muted">
        <ClockTime at={event.occurredAt} precision="millisecond" />
      </span>
    </li>
  );
}

const sealTone = (seal: WholeEvent['seal']): string =>
  seal === null ? 'muted' : seal.problem === null ? '' : 'failed';

/** From the cause to the effect, and to the seal. */
export function Chain({ event }: { readonly event: WholeEvent }) {
  const at = Date.parse(event.occurredAt);
  const bySchedule = useResource(
    CHAIN,
    event.scheduleId === null ? null : { condition: { scheduleId: event.scheduleId } },
  );
  const byRequest = useResource(
    CHAIN,
    event.requestId === null
      ? null
      : {
          condition: {
            requestId: event.requestId,
            occurredFrom: new Date(at - AROUND_MS).toISOString(),
            occurredBefore: new Date(at + AROUND_MS).toISOString(),
          },
        },
  );
  const events: TrailEvent[] = [
    event,
    ...(bySchedule.data.value?.auditEvents?.nodes ?? []),
    ...(byRequest.data.value?.auditEvents?.nodes ?? []),
  ];
  const { seal } = event;
  return (
    <>
      <Failure error={bySchedule.error} refetch={bySchedule.refetch} />
      <Failure error={byRequest.error} refetch={byRequest.refetch} />
      <ol class="chain" aria-label="Cause and effect">
        {chainOf(events, event.id, rowTime).map((step) => (
          <Step key={step.event.id} step={step} />
        ))}
        <li class={sealTone(seal)}>
          <Icon name={seal === null ? 'info' : seal.problem === null ? 'shield' : 'warning'} />
          {seal === null ? (
            <div>sealing…</div>
          ) : (
            <>
              <div>
                {seal.problem !== null && <strong>altered since it was </strong>}
                sealed in <strong>{numberText(seal.number)}</strong>,{' '}
                {seal.anchored ? 'anchored outside' : 'not anchored outside yet'}
              </div>
              <span class="muted">
                <ClockTime at={seal.sealedAt} precision="millisecond" />
              </span>
            </>
          )}
        </li>
      </ol>
    </>
  );
}
