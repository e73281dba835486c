import type pg from 'pg';
import { UsageError } from '../audit/exit_with.ts';
import { printable } from '../../lib/printable.ts';
import { formatTable } from '../table.ts';
import { COLUMNS, planBody, type PlanRow } from '../../plans/rows.ts';
import type { ChangeConflict } from '../../plans/schemas.ts';
import { asOwner, writeJson } from './as_owner.ts';
import { describeStatus } from './list.ts';
import { describeTime, describeValues, type Values } from './updates.ts';

/** A change of a plan, with what became of it. */
interface Change {
  readonly flag_key: string;
  readonly environment: string;
  readonly updates: Values;
  readonly expects: Values | null;
  readonly on_conflict: string;
  readonly schedule_id: string | null;
  readonly status: string | null;
  readonly error_message: string | null;
  readonly suspended_details: { readonly found?: Values } | null;
  readonly kept: readonly string[] | null;
}

/** `halyard plan show ID`: prints a plan. Exit status 2 when there is none with this id, 1 when it can't be read. */
export function show(id: string, { json = false }: { readonly json?: boolean }): Promise<void> {
  return asOwner('plan', async (pool) => {
    const plan = await readPlan(pool, id);
    const changes = await readChanges(pool, id);
    const conflicts = await readConflicts(pool, id);
    if (json) writeJson({ ...planBody({ ...plan, conflicts }), changes });
    else process.stdout.write(describe(plan, changes, conflicts));
  });
}

async function readPlan(pool: pg.Pool, id: string): Promise<PlanRow> {
  const { rows } = await pool.query<PlanRow>(
    `select ${COLUMNS} from app_public.plans p where p.id = $1`,
    [id],
  );
  const [plan] = rows;
  if (plan === undefined) throw new UsageError(`There is no plan ${id}.`);
  return plan;
}

/** The changes of the content; without a row where their flag was deleted. */
async function readChanges(pool: pg.Pool, id: string): Promise<readonly Change[]> {
  const { rows } = await pool.query<Change>(
    `select c.value ->> 'flagKey' as flag_key, c.value ->> 'environment' as environment, c.value -> 'updates' as updates,
       c.value -> 'expects' as expects, coalesce(s.on_conflict, c.value ->> 'onConflict', 'overwrite') as on_conflict,
       s.id as schedule_id, s.status, s.error_message, s.suspended_details, s.kept
     from app_public.plans p
     cross join lateral jsonb_array_elements(p.content -> 'steps') with ordinality as step (value, no)
     cross join lateral jsonb_array_elements(step.value -> 'changes') as c (value)
     left join lateral (
       select * from app_public.feature_flag_schedules s
       where s.plan_id = p.id and s.step_no = step.no and s.flag_id = (c.value ->> 'flagId')::uuid
       order by s.occurrence_no desc
       limit 1) as s on true
     where p.id = $1
     order by step.no, c.value ->> 'environment', c.value ->> 'flagKey'`,
    [id],
  );
  return rows;
}

/** As an auditor without limits, who may ask for them: the function asks for a token's role. */
async function readConflicts(pool: pg.Pool, id: string): Promise<readonly ChangeConflict[]> {
  const client = await pool.connect();
  try {
    await client.query(`begin read only; select set_config('jwt.claims.role', 'auditor', true)`);
    const { rows } = await client.query<ChangeConflict>(
      `select * from app_public.plan_conflicts($1)
       order by environment, flag_key, field`,
      [id],
    );
    return rows;
  } finally {
    await client.query('rollback');
    client.release();
  }
}

/** A plan in words: what it is, what it changes, what stands against it. */
export function describe(
  plan: PlanRow,
  changes: readonly Change[],
  conflicts: readonly ChangeConflict[],
): string {
  const facts: [string, string][] = [
    ['status', describeStatus(plan)],
    ['why', plan.status_reason ?? ''],
    ['due', describeTime(plan.next_at)],
    ['ended', describeTime(plan.ended_at)],
    [
      'made',
      `${describeTime(plan.created_at)}${plan.created_by === null ? '' : ` by ${plan.created_by}`}`,
    ],
    ['reason', plan.reason ?? ''],
    ['takes back', plan.reverts === null ? '' : JSON.stringify(plan.reverts)],
    ['revision', String(plan.revision)],
    ['content', plan.content_hash],
  ];
  return [
    `${printable(plan.title)}\n`,
    ...facts
      .filter(([, value]) => value !== '')
      .map(([name, value]) => `  ${name.padEnd(10)}  ${printable(value, MAX_TEXT)}\n`),
    `\n${describeChanges(changes)}`,
    ...(conflicts.length === 0 ? [] : [`\n${describeConflicts(conflicts)}`]),
  ].join('');
}

/** The longest reason. */
const MAX_TEXT = 500;

function describeChanges(changes: readonly Change[]): string {
  return formatTable(
    ['flag', 'environment', 'sets', 'expects', 'otherwise', 'status', 'note'],
    changes.map((change) => [
      ...[change.flag_key, change.environment],
      ...[describeValues(change.updates), describeValues(change.expects)],
      ...[change.expects === null ? '' : change.on_conflict, change.status ?? 'none'],
      describeOutcome(change),
    ]),
  );
}

/** What a person must know of a change besides its status. */
function describeOutcome({ error_message, suspended_details, kept }: Change): string {
  if (suspended_details?.found !== undefined)
    return `found ${describeValues(suspended_details.found)}`;
  if (kept !== null && kept.length > 0) return `left as found: ${kept.join(', ')}`;
  return error_message ?? '';
}

function describeConflicts(conflicts: readonly ChangeConflict[]): string {
  return formatTable(
    ['conflict', 'flag', 'environment', 'field', 'expected', 'found', 'at'],
    conflicts.map((conflict) => [
      ...[conflict.kind, conflict.flag_key, conflict.environment, conflict.field],
      ...[conflict.expected, conflict.found].map((value) => JSON.stringify(value)),
      describeTime(new Date(conflict.at)),
    ]),
  );
}
