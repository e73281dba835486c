import type pg from 'pg';
import { withClient } from '../database.ts';
import type { TestDatabase } from '../database.ts';
import type { Promise2xx } from './journal.ts';

/** A flag or schedule as it stands. */
export interface RowFact {
  readonly table: 'feature_flag' | 'flag_schedule';
  readonly id: string;
  readonly revision: number;
  /** The ids of the events that must tell of its revisions, from 1 on. */
  readonly eventIds: readonly string[];
  /** Of a schedule. */
  readonly status: string | null;
  /** Of a schedule: whether it should have been applied by now. */
  readonly overdue: boolean;
  /** Of a schedule: whether no attempt is left. */
  readonly exhausted: boolean;
  /** Of a flag: what its last event must say of it. */
  readonly state: Readonly<Record<string, unknown>> | null;
}

export interface EventFact {
  readonly id: string;
  readonly event_type: string;
  /** The flag or schedule that it is about; null in other events about the trail itself. */
  readonly row_id: string | null;
  readonly revision: number | null;
  readonly client_request_id: string | null;
  readonly reconciled: boolean;
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly payload: string;
}

/** The revisions of its row that an event accounts for: its own, or those that a `*.reconciled` event names. */
export function revisionsOf(event: EventFact): readonly number[] {
  if (event.event_type.endsWith('.reconciled')) return event.metadata.revisions as number[];
  return event.revision === null ? [] : [event.revision];
}

export interface LeafFact {
  readonly seq: number;
  readonly event_id: string;
  /** Hexadecimal. */
  readonly leaf: string;
}

export interface SealFact {
  readonly seal_no: number;
  readonly first_seq: number;
  readonly last_seq: number;
  readonly head: string;
}

/** What arrived at one destination, in the order of arrival. */
export interface Copy {
  readonly destination: string;
  readonly lines: readonly string[];
}

/** All that the invariant is checked against. */
export interface Facts {
  readonly rows: readonly RowFact[];
  readonly events: readonly EventFact[];
  readonly ledger: readonly LeafFact[];
  readonly seals: readonly SealFact[];
  /** What audit.verify(), audit.verify_rows() and audit.verify_triggers() find fault with. */
  readonly problems: readonly { readonly status: string; readonly detail: string | null }[];
  readonly queued: number;
  readonly deadLetters: number;
  readonly copies: readonly Copy[];
  /** What clients were told has been done. */
  readonly promises: readonly Promise2xx[];
}

/** The ids of a row's revisions, each in the incarnation that has it, or in the present one. */
const eventIdsOf = (row: string) => {
  const id = (incarnation: string) =>
    `app_private.event_id(${incarnation}, ${row}.id, ${row}.created_at, r)`;
  return `array(
      select coalesce(
        (select e.id from audit.incarnations i join audit.events e on e.id = ${id('i.id')} limit 1),
        ${id('app_private.incarnation()')})
      from generate_series(1, ${row}.revision) as r order by r)`;
};

const ROWS = `
  select
    'feature_flag' as table, f.id, f.revision::int, null as status, false as overdue, false as exhausted,
    app_private.flag_state(f) as state,
    ${eventIdsOf('f')} as "eventIds"
  from app_public.feature_flags f
  union all
  select
    'flag_schedule', s.id, s.revision::int, s.status,
    s.status = 'pending' and coalesce(s.next_attempt_at, s.scheduled_at) < clock_timestamp(),
    s.attempts >= s.max_attempts, null,
    ${eventIdsOf('s')}
  from app_public.feature_flag_schedules s
  union all
  select 'flag_plan', p.id, p.revision::int, null, false, false, null, ${eventIdsOf('p')}
  from app_public.plans p`;

const EVENTS = `
  select
    e.id, e.event_type, e.revision::int, e.client_request_id, e.reconciled, e.metadata, e.payload,
    case
      when e.event_type like 'feature\\_flag.%' then e.flag_id
      when e.event_type like 'flag\\_schedule.%' then e.schedule_id
      when e.event_type like 'flag\\_plan.%' then (e.metadata ->> 'planId')::uuid
      when e.event_type = 'audit.gap' then coalesce(e.schedule_id, e.flag_id, (e.metadata ->> 'planId')::uuid)
    end as row_id
  from audit.events e
  order by e.occurred_at`;

/** Reads everything in one snapshot. */
export async function collectFacts(
  database: Pick<TestDatabase, 'rootUrl'>,
  copies: readonly Copy[],
  promises: readonly Promise2xx[],
): Promise<Facts> {
  return withClient(database.rootUrl, async (client) => {
    await client.query('begin isolation level repeatable read read only');
    const rows = await all<RowFact>(client, ROWS);
    const events = await all<EventFact>(client, EVENTS);
    const ledger = await all<LeafFact>(
      client,
      `select seq::int, event_id, encode(leaf, 'hex') as leaf from audit.ledger order by seq`,
    );
    const seals = await all<SealFact>(
      client,
      `select seal_no::int, first_seq::int, last_seq::int, encode(head, 'hex') as head from audit.seals order by seal_no`,
    );
    const [count] = await all<{ queued: number; dead: number }>(
      client,
      `select (select count(*) from audit.queue)::int as queued, (select count(*) from audit.dead_letters)::int as dead`,
    );
    // As an auditor, whose function it is.
    await client.query('set local role halyard_auditor');
    const problems = await all<Facts['problems'][number]>(
      client,
      `select status, detail from audit.verify() where status <> 'ok'
       union all
       select v.status, concat_ws(' ', v.source_table, v.row_id, v.detail)
       from unnest('{settings,environments,plans,feature_flags,feature_flag_schedules,events}'::text[]) as s (source)
       cross join lateral audit.verify_rows(s.source) as v
       where v.status <> 'ok'
       union all
       select status, concat_ws(' ', table_name, detail) from audit.verify_triggers()`,
    );
    await client.query('rollback');
    const { queued = 0, dead = 0 } = count ?? {};
    return { rows, events, ledger, seals, problems, queued, deadLetters: dead, copies, promises };
  });
}

async function all<T>(client: pg.ClientBase, query: string): Promise<T[]> {
  return (await client.query(query)).rows as T[];
}

/** The message that is shipped, made here and not by the database. */
export function shippedMessage(payload: string, seq: number): string {
  return payload.replace(', "level": ', () => `, "seq": ${seq}, "level": `);
}
