import type pg from 'pg';
import { insertFlag, insertSchedule } from './factory.ts';

/** A row that the trail doesn't explain, as audit.verify_rows() tells it. */
export interface RowProblem {
  readonly row_id: string;
  readonly status: string;
  readonly differs: { column: string; trail: unknown; row: unknown }[];
}

const SOURCES = [
  ...['settings', 'environments', 'plans', 'feature_flags', 'feature_flag_schedules'],
  'events',
];

/** All such rows, whatever the table, a few rows at a time. */
export async function rowProblems(client: pg.ClientBase): Promise<RowProblem[]> {
  type Row = RowProblem & { readonly last_key: string | null };
  const found: RowProblem[] = [];
  for (const source of SOURCES) {
    let after: string | null = null;
    do {
      const sql = 'select * from audit.verify_rows($1, $2, 3)';
      const { rows }: pg.QueryResult<Row> = await client.query<Row>(sql, [source, after]);
      found.push(...rows.filter(({ status }) => status !== 'ok'));
      after = rows.find(({ status }) => status === 'ok')?.last_key ?? null;
    } while (after !== null);
  }
  return found;
}

/** The same in short: the row, the status, and column, trail's and row's value of each difference. */
export async function briefRowProblems(client: pg.ClientBase): Promise<unknown[][]> {
  return (await rowProblems(client)).map(({ row_id, status, differs }) => [
    row_id,
    status,
    differs.map(({ column, trail, row }) => [column, trail, row]),
  ]);
}

/** Changes past every trigger, as an owner can make them: rows change, and revisions stand still. */
export async function pastTriggers(client: pg.ClientBase, ...statements: string[]): Promise<void> {
  const set = (action: string) =>
    client.query(
      [
        'app_public.environments',
        'app_public.feature_flags',
        'app_public.feature_flag_schedules',
        'app_public.plans',
        'app_private.settings',
      ]
        .map((table) => `alter table ${table} ${action} trigger user`)
        .join(';'),
    );
  await client.query('begin');
  await set('disable');
  for (const statement of statements) await client.query(statement);
  // As they are made: `enable` alone would take `always` away.
  await client.query(
    `do $$
     declare v record;
     begin
       for v in select * from app_private.expected_triggers() where table_name ~ 'environments|flag|plans|settings' loop
         execute format('alter table %s enable %s trigger %I', v.table_name, case v.enabled when 'A' then 'always' else '' end, v.trigger_name);
       end loop;
       alter table app_public.feature_flag_schedules enable trigger _200_track;
     end $$`,
  );
  await client.query('commit');
}

/** A flag with a pending schedule, one that was moved and one that was applied. */
export async function makeRows(client: pg.ClientBase) {
  const flag = await insertFlag(client);
  const pending = await insertSchedule(client, flag.id);
  const moved = await insertSchedule(client, flag.id);
  await client.query(
    `update app_public.feature_flag_schedules set scheduled_at = scheduled_at + interval '1 hour' where id = $1`,
    [moved.id],
  );
  const applied = await insertSchedule(client, flag.id, { dueIn: '-1 second' });
  await client.query('select app_private.apply_due()');
  return { flag, pending, moved, applied };
}
