import type pg from 'pg';
import { formatTable } from '../table.ts';
import { asOwner, writeJson } from './as_owner.ts';
import { PLAN_JSON, SUSPENDED_FOR } from './columns.ts';
import { describeTime } from './updates.ts';

export interface ListArguments {
  readonly status?: string;
  readonly environment?: string;
  readonly flag?: string;
  readonly limit: number;
  readonly json?: boolean;
}

interface Row {
  readonly id: string;
  readonly title: string;
  readonly status: string;
  readonly suspended_for: string | null;
  readonly at: Date | null;
  readonly flags: number;
  readonly environments: readonly string[];
  readonly created_by: string | null;
  readonly plan: unknown;
}

/** `halyard plan list`: prints plans, newest first. Exit status 1 when they can't be read. */
export function list(options: ListArguments): Promise<void> {
  return asOwner('plan', async (pool) => {
    const found = await readPlans(pool, options);
    const rows = found.slice(0, options.limit);
    if (options.json === true) writeJson(rows.map(({ plan }) => plan));
    else process.stdout.write(describe(rows));
    if (found.length > options.limit)
      process.stderr.write(
        `There are more than ${options.limit}: --limit takes a higher number.\n`,
      );
  });
}

/** As many as are asked for, and one more if there is one. */
async function readPlans(pool: pg.Pool, options: ListArguments): Promise<readonly Row[]> {
  const { status = null, environment = null, flag = null, limit } = options;
  const { rows } = await pool.query<Row>(
    `select p.id, p.title, p.status, ${SUSPENDED_FOR} as suspended_for, coalesce(p.next_at, p.ended_at) as at,
       cardinality(p.flag_ids) as flags, p.environments::text[] as environments, p.created_by, ${PLAN_JSON} as plan
     from app_public.plans p
     where ($1::text is null or p.status = $1)
       and ($2::text is null or $2 = any (p.environments))
       and ($3::text is null or jsonb_path_exists(
         p.content, '$.steps[*].changes[*] ? (@.flagKey == $flag && ($environment == null || @.environment == $environment))',
         jsonb_build_object('flag', $3, 'environment', $2)))
     order by p.created_at desc, p.id desc
     limit $4`,
    [status, environment, flag, limit + 1],
  );
  return rows;
}

/** A line for each plan. */
export function describe(rows: readonly Omit<Row, 'plan'>[]): string {
  if (rows.length === 0) return 'There is no such plan.\n';
  return formatTable(
    ['id', 'status', 'due or ended', 'flags', 'environments', 'made by', 'title'],
    rows.map((row) => [
      ...[row.id, describeStatus(row), describeTime(row.at), String(row.flags)],
      ...[row.environments.join(', '), row.created_by ?? '', row.title],
    ]),
  );
}

/** With why a plan waits: `active, suspended for a stop`. */
export function describeStatus(plan: Pick<Row, 'status' | 'suspended_for'>): string {
  const { status, suspended_for: cause } = plan;
  return cause === null ? status : `${status}, suspended for a ${cause}`;
}
