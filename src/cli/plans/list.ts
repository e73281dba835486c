import type pg from 'pg';
import { contentOf } from '../../plans/content.ts';
import { COLUMNS, planBody, type PlanRow } from '../../plans/rows.ts';
import { formatTable } from '../table.ts';
import { asOwner, writeJson } from './as_owner.ts';
import { describeTime } from './updates.ts';

export interface ListArguments {
  readonly status?: string;
  readonly environment?: string;
  readonly flag?: string;
  readonly limit: number;
  readonly json?: boolean;
}

/** `halyard plan list`: prints plans, newest first. Exit status 1 when they can't be read. */
export function list(options: ListArguments): Promise<void> {
  return asOwner('plan', async (pool) => {
    const found = await readPlans(pool, options);
    // A misspelt name would read as an environment without plans.
    if (found.length === 0 && options.environment !== undefined)
      await pool.query('select app_private.require_environment($1)', [options.environment]);
    const rows = found.slice(0, options.limit);
    if (options.json === true) writeJson(rows.map(planBody));
    else process.stdout.write(describe(rows));
    if (found.length > options.limit)
      process.stderr.write(
        `There are more than ${options.limit}: --limit takes a higher number.\n`,
      );
  });
}

/** As many as are asked for, and one more if there is one. */
async function readPlans(pool: pg.Pool, options: ListArguments): Promise<readonly PlanRow[]> {
  const { status = null, environment, flag, limit } = options;
  const content = flag === undefined ? null : contentOf(flag, environment);
  const { rows } = await pool.query<PlanRow>(
    `select ${COLUMNS}
     from app_public.plans p
     where ($1::text is null or p.status = $1)
       and ($2::text is null or $2 = any (p.environments))
       and ($3::jsonb is null or p.content @> $3)
     order by p.created_at desc, p.id desc
     limit $4`,
    [status, environment ?? null, content, limit + 1],
  );
  return rows;
}

/** A line for each plan. */
export function describe(rows: readonly PlanRow[]): string {
  if (rows.length === 0) return 'There is no such plan.\n';
  return formatTable(
    ['id', 'status', 'due or ended', 'flags', 'environments', 'made by', 'title'],
    rows.map((row) => {
      const changes = row.content.steps.flatMap((step) => step.changes);
      const environments = new Set(changes.map(({ environment }) => environment));
      return [
        ...[row.id, describeStatus(row), describeTime(row.next_at ?? row.ended_at)],
        ...[String(changes.length), [...environments].toSorted().join(', ')],
        ...[row.created_by ?? '', row.title],
      ];
    }),
  );
}

/** With why a plan waits: `active, suspended for a stop`. */
export function describeStatus(plan: Pick<PlanRow, 'status' | 'suspended_for'>): string {
  const { status, suspended_for: cause } = plan;
  return cause === null ? status : `${status}, suspended for a ${cause}`;
}
