import type pg from 'pg';
import type { AuditEvent } from './sink.ts';

/** Runs a query and resolves to its rows. */
export type Query = <R extends pg.QueryResultRow>(
  text: string,
  values: readonly unknown[],
) => Promise<R[]>;

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

interface Row {
  readonly from_seq: string;
  readonly seq: string | null;
  readonly event_id: string;
  /** A number for PostgreSQL's infinity, which only a hand can have written. */
  readonly occurred_at: Date | number;
  readonly message: string;
}

/**
 * Numbers and seals up to `batch` queued events whose queue id is above `after`.
 *
 * @returns how many it sealed, null when another sequencer is at work; and the last queue id that it took, null when there
 *   was none
 */
export async function sealEvents(
  query: Query,
  batch: number,
  after: string,
): Promise<{ sealed: number | null; lastId: string | null }> {
  const rows = await query<{ sealed: number | null; last_id: string | null }>(
    'select sealed, last_id from app_private.seal_audit_events($1, $2)',
    [batch, after],
  );
  return { sealed: rows[0]?.sealed ?? null, lastId: rows[0]?.last_id ?? null };
}

/** A destination's cursor and up to `batch` events behind it, in one statement, so that they fit each other. */
export async function readPage(query: Query, destination: string, batch: number): Promise<Page> {
  const rows = await query<Row>(
    `select c.from_seq, e.seq, e.event_id, e.occurred_at, e.message
     from (select app_private.audit_cursor($1) as from_seq) as c
     left join app_private.undelivered_audit_events($1, $2)
       with ordinality as e (seq, event_id, occurred_at, message, place) on true
     order by e.place`,
    [destination, batch],
  );
  return {
    from: Number(rows[0]?.from_seq ?? 0),
    events: rows.flatMap((row) => (row.seq === null ? [] : [toEvent(row, row.seq)])),
  };
}

/** Confirms everything up to `to`; false, and nothing moved, unless the cursor stood at `from`. */
export async function advanceCursor(
  query: Query,
  destination: string,
  from: number,
  to: number,
): Promise<boolean> {
  const rows = await query<{ moved: boolean }>(
    'select app_private.advance_audit_cursor($1, $2, $3) as moved',
    [destination, from, to],
  );
  return rows[0]?.moved === true;
}

/**
 * The seq that a cursor may be moved to once the first `count` events of a page have arrived: a seal's record has its
 * last event's seq, and is sent again with that event when it has not arrived itself.
 */
export function confirmedSeq({ from, events }: Page, count: number): number {
  const last = events[count - 1];
  if (last === undefined) return from;
  return events[count]?.seq === last.seq ? last.seq - 1 : last.seq;
}

function toEvent(row: Row, seq: string): AuditEvent {
  return {
    seq: Number(seq),
    eventId: row.event_id,
    occurredAt: row.occurred_at instanceof Date ? row.occurred_at : new Date(Number.NaN),
    message: row.message,
  };
}
