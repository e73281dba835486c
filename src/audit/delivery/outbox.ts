import type pg from 'pg';
import type { Lease } from '../../postgres/lease.ts';
import type { AuditEvent } from './sink.ts';

/** Runs a query and resolves to its rows. */
export type Query = Lease['query'];

/** Queries on any connection of a pool. */
export function queryOf(pool: pg.Pool): Query {
  return async <R extends pg.QueryResultRow>(text: string, values: readonly unknown[]) =>
    (await pool.query<R>(text, [...values])).rows;
}

/** What a destination has not confirmed yet, as far as it was read. */
export interface Page {
  /** Where the cursor stands: the destination has everything up to this seq. */
  readonly from: number;
  /** Events in order of seq, each seal's record behind its last event, under the same seq. */
  readonly events: readonly AuditEvent[];
}

/** What a look at the queue has come to. */
export interface Sealed {
  /** How many events were sealed, null when another sequencer is at work. */
  readonly sealed: number | null;
  /** The last queue id that was taken, null when there was none. */
  readonly lastId: string | null;
  /** They and their seal's record, in order: a forwarder that has delivered everything before them needn't read them again. */
  readonly events: readonly AuditEvent[];
}

interface Row {
  readonly seq: string;
  readonly event_id: string;
  /** Microseconds since 1970, infinite for PostgreSQL's infinity, which only a hand can have written. */
  readonly occurred_us: number;
  readonly message: string;
}

/** Numbers and seals up to `batch` queued events whose queue id is above `after`. */
export async function sealEvents(query: Query, batch: number, after: string): Promise<Sealed> {
  const rows = await query<Row & { queue_id: string | null }>(
    'select queue_id, seq, event_id, occurred_us, message from app_private.seal_batch($1, $2)',
    [batch, after],
  );
  // The last row is the seal's, or it is all null.
  const lastId = rows.at(-2)?.queue_id ?? null;
  if (rows.length === 1) return { sealed: null, lastId, events: [] };
  return { sealed: Math.max(0, rows.length - 1), lastId, events: rows.map(toEvent) };
}

/** A destination's cursor and up to `batch` events behind it, in one statement, so that they fit each other. */
export async function readPage(query: Query, destination: string, batch: number): Promise<Page> {
  const [head, ...rows] = (await query(
    `select app_private.audit_cursor($1) as from_seq, null as seq, null as event_id, null as occurred_us, null as message, 0 as place
     union all
     select null, e.seq, e.event_id, date_part('epoch', e.occurred_at) * 1000000, e.message, e.place
     from app_private.undelivered_audit_events($1, $2)
       with ordinality as e (seq, event_id, occurred_at, message, place)
     order by place`,
    [destination, batch],
  )) as [{ from_seq: string }, ...Row[]];
  return { from: Number(head.from_seq), events: rows.map(toEvent) };
}

/** Confirms everything up to `to`; false, and nothing moved, unless the cursor stood at `from` and the lease is still this one. */
export async function advanceCursor(
  { query, token }: Pick<Lease, 'query' | 'token'>,
  destination: string,
  from: number,
  to: number,
): Promise<boolean> {
  const rows = await query<{ moved: boolean }>(
    'select app_private.confirm_audit_events($1, $2, $3, $4) as moved',
    [destination, token, from, to],
  );
  return rows[0]?.moved === true;
}

/**
 * Records in the trail that a destination refuses an event or a seal for good, once, also when it is asked for again.
 *
 * @param status the destination's answer
 * @throws Error when the lease is no longer this one; the database's error
 */
export async function recordUndeliverable(
  { query, token }: Pick<Lease, 'query' | 'token'>,
  destination: string,
  { seq, eventId }: AuditEvent,
  status: number,
): Promise<void> {
  const rows = await query<{ recorded: boolean }>(
    'select app_private.record_undeliverable($1, $2, $3, $4, $5) as recorded',
    [destination, token, seq, eventId, status],
  );
  if (rows[0]?.recorded !== true) throw new Error('Another forwarder has the lease.');
}

/** The seq to confirm once `count` events have arrived: a seal's record shares its last event's seq, so both must have. */
export function confirmedSeq({ from, events }: Page, count: number): number {
  const last = events[count - 1];
  if (last === undefined) return from;
  return events[count]?.seq === last.seq ? last.seq - 1 : last.seq;
}

function toEvent({ seq, event_id, occurred_us, message }: Row): AuditEvent {
  // A double holds microseconds exactly until the year 2255; a Date is cut off to milliseconds, as in the message.
  const occurredAt = new Date(Math.floor(Math.round(occurred_us) / 1_000));
  return { seq: Number(seq), eventId: event_id, occurredAt, message };
}
