import { hash } from 'node:crypto';

import type pg from 'pg';

import { pipeline } from '../../postgres/pipeline.ts';
import type { AuditEvent, ExportAuditEventsQuery } from './schemas.ts';

/** Which events are wanted; a filter that is left out lets all through. */
export type EventFilters = Pick<
  ExportAuditEventsQuery,
  'from' | 'to' | 'flag' | 'environment' | 'actor' | 'type'
>;

/** An event as it is exported, all of it text but `reconciled`: nothing is parsed only to be written again. */
export type EventRow = Omit<AuditEvent, 'seq' | 'metadata'> & {
  readonly seq: string;
  readonly metadata: string;
};

/** Of an event `e` with its number in `l`. */
const COLUMNS = `
  e.id, to_char(e.occurred_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as occurred_at, e.event_type, e.level,
  e.flag_id, e.flag_key, e.environment, e.schedule_id, e.actor_kind, e.admin_user_id, e.admin_email, e.request_id,
  e.client_request_id, e.database_user, e.application_name, e.reconciled, e.metadata::text as metadata,
  app_private.shipped_message(e.payload, l.seq) as message`;

/** Numbers of the ledger: those behind `after`, up to `until`. */
export interface SeqRange {
  readonly after: number;
  readonly until: number;
}

/** One look at the ledger. It reads the range's rows at most, so the range bounds what it costs. */
interface LedgerScan extends SeqRange {
  readonly order: 'asc' | 'desc';
  /** Rows at most. */
  readonly limit: number;
}

/**
 * The statement of a look at the ledger. The ledger has a copy of what most filters ask for, so only the events that pass are
 * looked up. Who acted stands in the event only: a purge takes that, and the ledger stays. `offset 0` keeps the planner from
 * turning the lookup of each event into a join that reads all events.
 */
export function ledgerScanStatement(filters: EventFilters, scan: LedgerScan) {
  const values: unknown[] = [scan.after, scan.until, scan.limit];
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
    select l.seq, e.*
    from audit.ledger l
    cross join lateral (select ${COLUMNS} from audit.events e where ${ofEvent.join(' and ')} offset 0) e
    where ${ofLedger.join(' and ')}
    order by l.seq ${scan.order}
    limit $3`;
  return { name: `export_${hash('sha1', text)}`, text, values };
}

/** The connection keeps one plan for all values: planning the lookup in twelve months takes 10 to 25 ms, a look 1 to 3. */
const FORCE_GENERIC_PLAN = {
  name: 'force_generic_plan',
  text: `select set_config('plan_cache_mode', 'force_generic_plan', true)`,
};

/** Reads a range's events that pass the filters, in the order of their numbers; in a transaction that runs nothing else. */
export async function scanLedger(
  client: pg.ClientBase,
  filters: EventFilters,
  scan: LedgerScan,
): Promise<readonly EventRow[]> {
  const [, result] = await pipeline(client, [
    FORCE_GENERIC_PLAN,
    ledgerScanStatement(filters, scan),
  ]);
  return (result as pg.QueryResult<EventRow>).rows;
}
