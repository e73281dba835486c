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

/** A row as audit.verify_rows() has checked it. */
interface CheckedRow extends RowFinding {
  readonly status: string;
  readonly detail: string;
  readonly lastKey: string | null;
}

/** Of audit.verify_rows(): the rows of five tables, and those of the trail that are gone. */
const SOURCES = [
  ...['settings', 'environments', 'plans', 'feature_flags', 'feature_flag_schedules'],
  'events',
];

/** Rows of one statement: 0.1 to 0.2 s, and 2 s where each is checked event by event. Vacuum waits for a statement's snapshot. */
const BATCH = 500;

/**
 * Checks that flags, schedules, plans, environments and settings are what the trail says of them, that none is gone without an event, and that the
 * triggers, functions, policies and event types that the trail hangs on are as this version has them. Each statement sees one state of the database, in which a row and its
 * event are both or neither, so that changes meanwhile raise no false alarm.
 *
 * @param pool as an auditor without limits
 * @param onProgress gets the name of what is being checked, and how many of its rows have been
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
    let checked = 0;
    do {
      const page = await readPage(pool, source, after);
      problems.push(...page.filter(({ status }) => status !== 'ok').map(rowProblem));
      after = page.find(({ status }) => status === 'ok')?.lastKey ?? null;
      checked += BATCH;
      if (after !== null) onProgress(source, checked);
    } while (after !== null);
  }
  return problems;
}

async function readPage(
  pool: pg.Pool,
  source: string,
  after: string | null,
): Promise<readonly CheckedRow[]> {
  const { rows } = await pool.query<CheckedRow>(
    `select source_table as "table", row_id as id, flag_key as "flagKey", environment, differs, status, detail, last_key as "lastKey"
     from audit.verify_rows($1, $2, $3)`,
    [source, after, BATCH],
  );
  return rows;
}

async function triggerProblems(pool: pg.Pool): Promise<StateProblem[]> {
  const { rows } = await pool.query<{ status: string; detail: string }>(
    `select status, table_name || ': ' || detail as detail from audit.verify_triggers() order by table_name, detail`,
  );
  return rows.map((found) => ({ ...found, seal: null, seqs: [] }));
}

function rowProblem({ status, detail, ...found }: CheckedRow): StateProblem {
  const { table, id, flagKey, environment, differs } = found;
  const flag = flagKey === null ? '' : ` of flag ${flagKey} in ${environment ?? '?'}`;
  return {
    ...{ status, seal: null, seqs: [], detail: `${table} ${id}${flag}: ${detail}` },
    row: { table, id, flagKey, environment, differs },
  };
}
