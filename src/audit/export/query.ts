import { hash } from 'node:crypto';

import type pg from 'pg';

import { fly } from '../../postgres/pipeline.ts';

/** Which events are wanted; what is left out doesn't matter. Times are ISO 8601: from inclusive, to exclusive. */
export interface EventFilters {
  readonly from?: string | undefined;
  readonly to?: string | undefined;
  readonly flag?: string | undefined;
  readonly environment?: string | undefined;
  /** A user id or an e-mail address of an admin, `system`, or a database user who typed SQL by hand. */
  readonly actor?: string | undefined;
  readonly type?: readonly string[] | undefined;
}

/** An event as it is exported, all of it text but `reconciled`: nothing is parsed only to be written again. */
export interface EventRow {
  readonly seq: string;
  readonly id: string;
  readonly occurred_at: string;
  readonly event_type: string;
  readonly level: string;
  readonly flag_id: string | null;
  readonly flag_key: string | null;
  readonly environment: string | null;
  readonly schedule_id: string | null;
  readonly actor_kind: string;
  readonly admin_user_id: string | null;
  readonly admin_email: string | null;
  readonly request_id: string | null;
  readonly database_user: string;
  readonly application_name: string;
  readonly reconciled: boolean;
  /** JSON. */
  readonly metadata: string;
  /** What was shipped and hashed. */
  readonly message: string;
}

/** Of an event `e` with its number in `l`. */
const COLUMNS = `
  e.id, to_char(e.occurred_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as occurred_at, e.event_type, e.level,
  e.flag_id, e.flag_key, e.environment, e.schedule_id, e.actor_kind, e.admin_user_id, e.admin_email, e.request_id,
  e.database_user, e.application_name, e.reconciled, e.metadata::text as metadata,
  app_private.shipped_message(e.payload, l.seq) as message`;

/**
 * The event of a number. `offset 0` keeps the planner from turning this into a join that reads all events to find a page of
 * them.
 */
const eventOf = (columns: string, where: string) => `
  lateral (
    select ${columns}
    from audit.events e
    where e.id = l.event_id and e.occurred_at = l.occurred_at ${where}
    offset 0
  ) e`;

const KEEP_PLAN = {
  name: 'keep_plan',
  text: `select set_config('plan_cache_mode', 'force_generic_plan', true)`,
};

/**
 * Runs a statement by the one plan that its connection keeps for all values, in a transaction that runs no other: to plan a look
 * at twelve months takes 10 to 25 ms, and the look 1 to 3. Not for one whose plan hangs on its values.
 */
async function askKept<R extends pg.QueryResultRow>(
  client: pg.ClientBase,
  text: string,
  values: readonly unknown[],
): Promise<R[]> {
  const kept = { name: `export_${hash('sha1', text)}`, text, values };
  const [, result] = await fly(client, [KEEP_PLAN, kept]);
  return (result as pg.QueryResult<R>).rows;
}

/** Collects the values of a statement. */
function makeValues(...first: readonly unknown[]) {
  const values = [...first];
  return {
    values,
    /** The placeholder of one more. */
    add: (value: unknown) => `$${values.push(value)}`,
  };
}
type Values = ReturnType<typeof makeValues>;

/** Conditions on an event, or on a number's time, each with `and` before it. */
function conditionsOf(filters: EventFilters, { add }: Values, e = 'e'): string {
  const { from, to, flag, environment, actor, type } = filters;
  const conditions: string[] = [];
  if (from !== undefined) conditions.push(`${e}.occurred_at >= ${add(from)}`);
  if (to !== undefined) conditions.push(`${e}.occurred_at < ${add(to)}`);
  if (flag !== undefined) conditions.push(`${e}.flag_key = ${add(flag)}`);
  if (environment !== undefined) conditions.push(`${e}.environment = ${add(environment)}`);
  if (type !== undefined) conditions.push(`${e}.event_type = any (${add(type)}::text[])`);
  if (actor === 'system') conditions.push(`${e}.actor_kind = 'system'`);
  else if (actor !== undefined) {
    const who = add(actor);
    conditions.push(
      `(${e}.admin_user_id = ${who} or ${e}.admin_email = ${who} or (${e}.actor_kind = 'database' and ${e}.database_user = ${who}))`,
    );
  }
  return conditions.map((condition) => ` and ${condition}`).join('');
}

export interface Step {
  /** Only what is behind this seq. */
  readonly after: number;
  /** How many numbers to look at. */
  readonly window: number;
  /** The last number to look at; null for the end of the trail as it is then. */
  readonly until: number | null;
  /** Rows at most. */
  readonly limit: number;
}

/** What a step has found. */
export interface Found {
  readonly rows: readonly EventRow[];
  /** Everything up to this seq has been looked at, unless there are as many rows as were wanted. */
  readonly upto: number;
  /** The end of the trail. */
  readonly last: number;
}

type FoundRow = EventRow & { seq: string | null; upto: string; last: string };

/**
 * The statement that walks along the ledger for one step, and looks at each number's event. It costs what its window is wide,
 * wherever in the trail it is. One row of nulls tells that nothing was found.
 */
export function walkStatement(filters: EventFilters, step: Step): pg.QueryConfig {
  const values = makeValues(step.after, step.window, step.until, step.limit);
  const where = conditionsOf(filters, values);
  // Numbers of another time need no look at their events.
  const times = conditionsOf({ from: filters.from, to: filters.to }, values, 'l');
  const text = `
    with bounds as materialized (
      select last, greatest($1::bigint, least($1::bigint + $2::bigint, coalesce($3::bigint, last), last)) as upto
      from (select audit.last_seq()) as trail (last)
    )
    select b.last, b.upto, r.*
    from bounds b
    left join lateral (
      select l.seq, e.*
      from audit.ledger l
      cross join ${eventOf(COLUMNS, where)}
      where l.seq > $1 and l.seq <= b.upto ${times}
      order by l.seq
      limit $4
    ) r on true
    order by r.seq`;
  return { text, values: values.values };
}

/** Takes a step. */
export async function walk(
  client: pg.ClientBase,
  filters: EventFilters,
  step: Step,
): Promise<Found> {
  const { text, values = [] } = walkStatement(filters, step);
  // How many numbers a time has decides whether they are looked for by number or by time.
  const rows =
    (filters.from ?? filters.to) === undefined
      ? await askKept<FoundRow>(client, text, values)
      : (await client.query<FoundRow>(text, values)).rows;
  const [first] = rows;
  if (first === undefined) throw new Error('The statement of a step gives one row at least.');
  return {
    rows: (first.seq as string | null) === null ? [] : rows,
    upto: Number(first.upto),
    last: Number(first.last),
  };
}

/** Whether the indexes of audit.events may find the events faster than a walk. */
export function isIndexed({ from, to, flag, type }: EventFilters): boolean {
  return (from ?? to ?? flag ?? type) !== undefined;
}

/** The statement that finds events by the indexes on what they tell: their numbers, null for one that has none yet. */
export function seekStatement(filters: EventFilters, most: number): pg.QueryConfig {
  const values = makeValues(most);
  const where = conditionsOf(filters, values);
  const text = `
    select l.seq
    from (
      select e.id from audit.events e where true ${where} limit $1::bigint
    ) e
    left join lateral (select l.seq from audit.ledger l where l.event_id = e.id offset 0) l on true`;
  return { text, values: values.values };
}

/**
 * The numbers of all events that fit, in order, when they are few.
 *
 * @param most how many are few
 * @returns null when there are more
 */
export async function seek(
  client: pg.ClientBase,
  filters: EventFilters,
  most: number,
): Promise<readonly number[] | null> {
  // Planned for its values: which index is the best one hangs on how many events a flag, a type and a time have.
  const { rows } = await client.query<{ seq: string | null }>(seekStatement(filters, most + 1));
  if (rows.length > most) return null;
  return rows.flatMap(({ seq }) => (seq === null ? [] : [Number(seq)])).toSorted((a, b) => a - b);
}

const PICK = `select l.seq, e.* from audit.ledger l cross join ${eventOf(COLUMNS, '')} where l.seq = any ($1::bigint[]) order by l.seq`;

/** The events with these numbers, in order. */
export async function pick(
  client: pg.ClientBase,
  seqs: readonly number[],
): Promise<readonly EventRow[]> {
  return askKept(client, PICK, [seqs]);
}
