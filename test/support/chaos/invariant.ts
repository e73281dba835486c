import { createHash } from 'node:crypto';
import { copyBreaches } from './copies.ts';
import { revisionsOf, shippedMessage } from './facts.ts';
import type { EventFact, Facts, RowFact } from './facts.ts';

/** One way in which the trail, its copies, the rows and what clients were told don't fit together. */
export interface Breach {
  readonly rule: Rule;
  /** With the ids that it is about. */
  readonly detail: string;
}

export type Rule =
  | 'transition without event'
  | 'event without transition'
  | 'event twice'
  | 'state untold'
  | 'event without leaf'
  | 'leaf twice'
  | 'leaf without event'
  | 'leaf differs'
  | 'seq not contiguous'
  | 'events still queued'
  | 'verify finds fault'
  | 'dead letters'
  | 'schedule not settled'
  | 'schedule applied more than once'
  | 'schedule applied without event'
  | 'promise broken'
  | 'event not delivered'
  | 'copy differs'
  | 'copy of no event'
  | 'copy out of order'
  | 'seal not delivered'
  | 'copy unreadable';

/** The invariant: everything that is broken in it, nothing when all is well. */
export function findBreaches(facts: Facts): Breach[] {
  return [
    ...rowBreaches(facts),
    ...goneRowBreaches(facts),
    ...scheduleBreaches(facts),
    ...leafBreaches(facts),
    ...storeBreaches(facts),
    ...promiseBreaches(facts),
    ...facts.copies.flatMap((copy) => copyBreaches(copy, facts)),
  ];
}

function breach(rule: Rule, detail: string): Breach {
  return { rule, detail };
}

const isReconciled = ({ event_type }: EventFact) => event_type.endsWith('.reconciled');

/** Each revision of each row has one event of its own, or one that stands for it; no event is about a revision that there never was. */
function rowBreaches({ rows, events }: Facts): Breach[] {
  const byId = Map.groupBy(events, ({ id }) => id);
  const byRow = Map.groupBy(events, ({ row_id }) => row_id);
  return rows.flatMap((row) => {
    const name = `${row.table} ${row.id}`;
    const own = byRow.get(row.id) ?? [];
    const named = own.filter(isReconciled).flatMap(revisionsOf);
    const counted = row.eventIds.flatMap((eventId, i) => {
      const count =
        (byId.get(eventId)?.length ?? 0) + named.filter((revision) => revision === i + 1).length;
      if (count === 1) return [];
      const rule = count === 0 ? 'transition without event' : 'event twice';
      return [breach(rule, `${name} revision ${i + 1}, event ${eventId}: ${count} events`)];
    });
    const extra = own
      .filter((event) =>
        isReconciled(event)
          ? revisionsOf(event).some((revision) => revision > row.revision)
          : !row.eventIds.includes(event.id),
      )
      .map((event) =>
        breach(
          'event without transition',
          `${name} is at ${row.revision}: ${event.event_type} ${event.id}`,
        ),
      );
    return [...counted, ...extra, ...stateBreaches(row, own)];
  });
}

/** What a flag's last event says is what the flag is. */
function stateBreaches(row: RowFact, events: readonly EventFact[]): Breach[] {
  const last = events.find(({ revision }) => revision === row.revision);
  if (row.state === null || last === undefined) return [];
  const [is, said] = [row.state, last.metadata.after].map((state) => sorted(state));
  if (is === said) return [];
  return [breach('state untold', `${row.table} ${row.id} is ${is}; event ${last.id} says ${said}`)];
}

function sorted(state: unknown): string {
  return JSON.stringify(Object.entries(state ?? {}).toSorted(([a], [b]) => a.localeCompare(b)));
}

/** A row that is gone has an event for each of its revisions, the last of them for its end; or it has a gap behind the last known. */
function goneRowBreaches({ rows, events }: Facts): Breach[] {
  const present = new Set(rows.map(({ id }) => id));
  const gone = events.filter(({ row_id }) => row_id !== null && !present.has(row_id));
  return [...Map.groupBy(gone, ({ row_id }) => row_id)].flatMap(([rowId, own]) => {
    const revisions = own.flatMap(revisionsOf).toSorted((a, b) => a - b);
    const whole = revisions.every((revision, i) => revision === i + 1);
    const ended = own.some(
      ({ event_type, revision, metadata }) =>
        (event_type.endsWith('.deleted') && revision === revisions.at(-1)) ||
        (event_type === 'audit.gap' && metadata.lastRevision === revisions.at(-1)),
    );
    if (whole && ended) return [];
    const described = own.map((event) => `${event.event_type} ${event.revision ?? '?'}`).join(', ');
    return [
      breach(
        ended ? 'transition without event' : 'event without transition',
        `row ${rowId ?? ''} is gone; its events: ${described}`,
      ),
    ];
  });
}

/** Each schedule is applied once, or failed for good, or cancelled, or not due yet. */
function scheduleBreaches({ rows, events }: Facts): Breach[] {
  const applied = Map.groupBy(
    events.filter(({ event_type }) => event_type === 'flag_schedule.applied'),
    ({ row_id }) => row_id,
  );
  const reconciled = Map.groupBy(events.filter(isReconciled), ({ row_id }) => row_id);
  return rows.flatMap((row) => {
    if (row.status === null) return [];
    // Applying is a schedule's last revision.
    const lost = (reconciled.get(row.id) ?? []).filter(
      (event) => row.status === 'applied' && revisionsOf(event).includes(row.revision),
    );
    const count = (applied.get(row.id)?.length ?? 0) + lost.length;
    const found: Breach[] = [];
    if (count > 1)
      found.push(breach('schedule applied more than once', `${row.id}: ${count} applied events`));
    if ((row.status === 'applied') !== count > 0)
      found.push(
        breach(
          'schedule applied without event',
          `${row.id} is ${row.status}: ${count} applied events`,
        ),
      );
    if (row.overdue) found.push(breach('schedule not settled', `${row.id} is due and pending`));
    if (row.status === 'failed' && !row.exhausted)
      found.push(breach('schedule not settled', `${row.id} failed with attempts left`));
    return found;
  });
}

/** The ledger has each event once, without gaps, under the hash of its very text. */
function leafBreaches({ events, ledger }: Facts): Breach[] {
  const payloads = new Map(events.map(({ id, payload }) => [id, payload]));
  const leaves = Map.groupBy(ledger, ({ event_id }) => event_id);
  const found = ledger.flatMap(({ seq, event_id, leaf }, i) => {
    const payload = payloads.get(event_id);
    const own: Breach[] = [];
    if (seq !== i + 1)
      own.push(breach('seq not contiguous', `row ${i + 1} of the ledger has seq ${seq}`));
    if (payload === undefined) own.push(breach('leaf without event', `seq ${seq}, ${event_id}`));
    else if (leaf !== leafOf(shippedMessage(payload, seq)))
      own.push(breach('leaf differs', `seq ${seq}, event ${event_id}`));
    return own;
  });
  for (const { id, event_type } of events) {
    const count = leaves.get(id)?.length ?? 0;
    if (count === 0) found.push(breach('event without leaf', `${event_type} ${id}`));
    if (count > 1) found.push(breach('leaf twice', `${event_type} ${id}: ${count} leaves`));
  }
  return found;
}

function leafOf(message: string): string {
  return createHash('sha256').update('\0').update(message, 'utf8').digest('hex');
}

function storeBreaches({ problems, queued, deadLetters }: Facts): Breach[] {
  const found = problems.map(({ status, detail }) =>
    breach('verify finds fault', `${status}: ${detail ?? ''}`),
  );
  if (queued > 0) found.push(breach('events still queued', `${queued} events have no number yet`));
  if (deadLetters > 0) found.push(breach('dead letters', `${deadLetters} are left`));
  return found;
}

/** What a client was answered is in the trail, once: under the request's id, or in an event that stands for lost ones of the row. */
function promiseBreaches({ promises, events }: Facts): Breach[] {
  const byRequest = Map.groupBy(events, ({ client_request_id }) => client_request_id);
  const byRow = Map.groupBy(events.filter(isReconciled), ({ row_id }) => row_id);
  return promises.flatMap(({ requestId, eventType, rowId }) => {
    const direct = (byRequest.get(requestId) ?? []).filter(
      (event) => event.event_type === eventType && event.row_id === rowId,
    );
    const lost = (byRow.get(rowId) ?? []).some(
      (event) => !eventType.endsWith('.created') || revisionsOf(event).includes(1),
    );
    if (direct.length === 1 || (direct.length === 0 && lost)) return [];
    return [
      breach(
        'promise broken',
        `request ${requestId} was answered 2xx: ${direct.length} events ${eventType} of ${rowId}`,
      ),
    ];
  });
}
