import type pg from 'pg';
import { eventTypeProblems } from './event_types.ts';
import { functionProblems } from './functions.ts';
import type { Problem } from './verify.ts';

/** A row that isn't what the trail says of it. */
export interface RowFinding {
  readonly table: string;
  /** The row's id; of a setting or an environment its name. */
  readonly id: string;
  readonly flagKey: string | null;
  readonly environment: string | null;
  /** The columns that differ, with what the trail says and what the row has. */
  readonly differs: readonly { column: string; trail: unknown; row: unknown }[];
}

/** A problem of the database's state: of a row, or of a table's triggers and policies. */
export type StateProblem = Problem & { readonly row?: RowFinding };

interface Row {
  readonly source_table: string;
  readonly row_id: string;
  readonly flag_key: string | null;
  readonly environment: string | null;
  readonly status: string;
  readonly differs: RowFinding['differs'];
  readonly detail: string;
  readonly last_key: string | null;
}

/** What audit.verify_rows() is asked for: the rows of four tables, and those of the trail's that are gone. */
const SOURCES = ['settings', 'environments', 'feature_flags', 'feature_flag_schedules', 'events'];

/** Rows looked at in one statement: 0.1 to 0.2 s, and 2 s where each is looked at event by event. Vacuum waits for a statement's snapshot. */
const BATCH = 500;

/**
 * Checks that flags, schedules, environments and settings are what the trail says of them, that none is gone without an event, and that the
 * triggers, functions, policies and event types that the trail hangs on are as this version has them. Each statement sees one state of the database, in which a row and its
 * event are both or neither, so that changes meanwhile raise no false alarm.
 *
 * @param pool as an auditor without limits
 * @param onProgress gets the name of what is being looked at, and how many of its rows have been
 * @throws the database's errors
 */
export async function verifyState(
  pool: pg.Pool,
  onProgress: (table: string, rows: number) => void = () => undefined,
): Promise<StateProblem[]> {
  const problems: StateProblem[] = [
    ...(await triggerProblems(pool)),
    ...(await functionProblems(pool)),
    ...(await eventTypeProblems(pool)),
  ];
  for (const source of SOURCES) {
    let after: string | null = null;
    let looked = 0;
    do {
      const page: readonly Row[] = await readPage(pool, source, after);
      for (const row of page) if (row.status !== 'ok') problems.push(rowProblem(row));
      after = page.find(({ status }) => status === 'ok')?.last_key ?? null;
      looked += BATCH;
      if (after !== null) onProgress(source, looked);
    } while (after !== null);
  }
  return problems;
}

async function readPage(
  pool: pg.Pool,
  source: string,
  after: string | null,
): Promise<readonly Row[]> {
  const sql = 'select * from audit.verify_rows($1, $2, $3)';
  const { rows } = await pool.query<Row>(sql, [source, after, BATCH]);
  return rows;
}

async function triggerProblems(pool: pg.Pool): Promise<StateProblem[]> {
  const { rows } = await pool.query<{ status: string; table_name: string; detail: string }>(
    'select * from audit.verify_triggers() order by table_name, detail',
  );
  return rows.map(({ status, table_name, detail }) => ({
    ...{ status, seal: null, seqs: [], detail: `${table_name}: ${detail}` },
  }));
}

function rowProblem(found: Row): StateProblem {
  const { source_table: table, row_id: id, flag_key: flagKey, environment, differs } = found;
  const flag = flagKey === null ? '' : ` of flag ${flagKey} in ${environment ?? '?'}`;
  return {
    ...{
      status: found.status,
      seal: null,
      seqs: [],
      detail: `${table} ${id}${flag}: ${found.detail}`,
    },
    row: { table, id, flagKey, environment, differs },
  };
}
