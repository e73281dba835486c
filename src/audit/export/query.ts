import { hash } from 'node:crypto';

import type pg from 'pg';

import { pipeline } from '../../postgres/pipeline.ts';
import type { AuditEvent, ExportAuditEventsQuery } from './schemas.ts';

/** Which events; a filter that is left out lets all through. */
type EventFilters = Pick<
  ExportAuditEventsQuery,
  'from' | 'to' | 'flag' | 'environment' | 'actor' | 'type'
>;

/** An event as it is exported, all of it text but `reconciled`: nothing is parsed only to be written again. */
export type EventRow = Omit<AuditEvent, 'seq' | 'metadata'> & {
  readonly seq: string;
  readonly metadata: string;
};

/** What a scan finds. */
export interface Scanned {
  readonly rows: readonly EventRow[];
  /** Events that there are; the rows are the first of them. */
  readonly found: number;
  /** Bytes of their payloads. */
  readonly bytes: number;
  /** The one row has more bytes than a scan may have: its metadata and message are left out, to be read by `readPiece`. */
  readonly isLarge: boolean;
}

/** Of an event. */
const COLUMNS = `
  e.id, e.occurred_at, e.event_type, e.level, e.flag_id, e.flag_key, e.environment, e.schedule_id, e.actor_kind, e.admin_user_id,
  e.admin_email, e.request_id, e.client_request_id, e.database_user, e.application_name, e.reconciled, e.metadata, e.payload,
  octet_length(e.payload) as bytes`;

/** The same as text; the long ones only where there is room for them. Nothing before this reads the payload itself. */
const AS_TEXT = `
  seq, id, to_char(occurred_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as occurred_at, event_type, level, flag_id,
  flag_key, environment, schedule_id, actor_kind, admin_user_id, admin_email, request_id, client_request_id, database_user, application_name,
  reconciled, case when bytes <= $4 then metadata::text end as metadata,
  case when bytes <= $4 then app_private.shipped_message(payload, seq) end as message, bytes, found`;

/** Numbers of the ledger: those after `after`, up to `until`. */
export interface SeqRange {
  readonly after: number;
  readonly until: number;
}

/** One scan of the ledger. It reads the range's rows at most, so the range bounds what it costs. */
interface LedgerScan extends SeqRange {
  readonly order: 'asc' | 'desc';
  /** Rows at most. */
  readonly limit: number;
  /** Bytes of payloads at most; one event comes in any case. */
  readonly bytes: number;
}

/**
 * The statement of a scan of the ledger. The ledger has a copy of what most filters ask for, so only the events that pass are
 * looked up. Who acted stands in the event only: a purge takes that, and the ledger stays. `offset 0` keeps the planner from
 * turning the lookup of each event into a join that reads all events. The length of a payload is known without reading it.
 */
export function ledgerScanStatement(filters: EventFilters, scan: LedgerScan) {
  const values: unknown[] = [scan.after, scan.until, scan.limit, scan.bytes];
  const add = (value: unknown) => `$${values.push(value)}`;
  const ofLedger = ['l.seq > $1', 'l.seq <= $2'];
  const ofEvent = ['e.id = l.event_id', 'e.occurred_at = l.occurred_at'];
  const { from, to, flag, environment, actor, type } = filters;
  if (from !== undefined) ofLedger.push(`l.occurred_at >= ${add(from)}`);
  if (to !== undefined) ofLedger.push(`l.occurred_at < ${add(to)}`);
  if (flag !== undefined) ofLedger.push(`l.flag_key = ${add(flag)}`);
  if (environment !== undefined) ofLedger.push(`l.environment = ${add(environment)}`);
  if (type !== undefined) ofLedger.push(`l.event_type = any (${add(type)})`);
  if (actor === 'system') ofEvent.push(`e.actor_kind = 'system'`);
  else if (actor !== undefined) {
    const who = add(actor);
    const typed = `e.actor_kind = 'database' and e.database_user = ${who}`;
    ofEvent.push(`(e.admin_user_id = ${who} or e.admin_email = ${who} or (${typed}))`);
  }
  const text = `
    select ${AS_TEXT}
    from (
      select f.*, sum(f.bytes) over (order by f.seq ${scan.order}) as bytes_so_far, (count(*) over ())::integer as found
      from (
        select l.seq, e.*
        from audit.ledger l
        cross join lateral (select ${COLUMNS} from audit.events e where ${ofEvent.join(' and ')} offset 0) e
        where ${ofLedger.join(' and ')}
        order by l.seq ${scan.order}
        limit $3
      ) f
    ) s
    where bytes_so_far <= $4 or bytes_so_far = bytes
    order by seq ${scan.order}`;
  return { name: `export_${hash('sha1', text)}`, text, values };
}

/** The connection keeps one plan for all values: planning the lookup in twelve months takes 10 to 25 ms, a scan 1 to 3. */
const FORCE_GENERIC_PLAN = {
  name: 'force_generic_plan',
  text: `select set_config('plan_cache_mode', 'force_generic_plan', true)`,
};

/** Reads a range's events that pass the filters, in the order of their numbers; in a transaction that runs nothing else. */
export async function scanLedger(
  client: pg.ClientBase,
  filters: EventFilters,
  scan: LedgerScan,
): Promise<Scanned> {
  const [, result] = await pipeline(client, [
    FORCE_GENERIC_PLAN,
    ledgerScanStatement(filters, scan),
  ]);
  const { rows } = result as pg.QueryResult<EventRow & { bytes: number; found: number }>;
  const bytes = rows.reduce((sum, row) => sum + row.bytes, 0);
  return {
    rows,
    found: rows[0]?.found ?? 0,
    bytes,
    isLarge: rows.length === 1 && bytes > scan.bytes,
  };
}

/** A text of an event that is too long to be read at once. */
export type LongColumn = 'metadata' | 'message';

const LONG_COLUMNS = {
  metadata: 'e.metadata::text',
  message: 'app_private.shipped_message(e.payload, l.seq)',
} satisfies Record<LongColumn, string>;

/**
 * A part of a long text, `length` characters from the one at `from`, which counts from 1.
 *
 * @throws Error when the event is no longer there
 */
export async function readPiece(
  client: pg.ClientBase,
  seq: string,
  column: LongColumn,
  { from, length }: { readonly from: number; readonly length: number },
): Promise<string> {
  const { rows } = await client.query<{ piece: string }>(
    `select substr(${LONG_COLUMNS[column]}, $2, $3) as piece
     from audit.ledger l join audit.events e on e.id = l.event_id and e.occurred_at = l.occurred_at
     where l.seq = $1`,
    [seq, from, length],
  );
  const [row] = rows;
  if (row === undefined) throw new Error(`Event ${seq} was purged while it was exported.`);
  return row.piece;
}
