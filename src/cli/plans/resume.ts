import type pg from 'pg';
import { asUsageError } from '../audit/exit_with.ts';
import { formatTable } from '../table.ts';
import { asOwner, BAD_ARGUMENT_STATES, sayingBlockers, writeJson } from './as_owner.ts';
import { describeTime, describeValues, type Values } from './updates.ts';

export interface ResumeArguments {
  readonly missed: 'apply' | 'skip';
  readonly reason: string;
  readonly except?: readonly string[];
  readonly dryRun?: boolean;
  readonly json?: boolean;
}

/** A schedule that came due while its environment was stopped. */
interface Missed {
  readonly schedule_id: string;
  readonly scheduled_at: Date;
  readonly flag_key: string;
  readonly environment: string;
  readonly updates: Values;
  readonly plan_id: string | null;
  readonly plan: string | null;
  readonly status: string;
}

/** What became of one. */
type Outcome = 'apply' | 'skip' | 'still suspended';

interface Report {
  readonly name: string;
  readonly dry_run: boolean;
  readonly missed: readonly (Omit<Missed, 'status'> & { readonly outcome: Outcome })[];
}

/**
 * `halyard resume ENVIRONMENT`: ends the stop of an environment as the owner, and says what becomes of what came due meanwhile. Exit
 * status 2 for bad arguments, 1 when it can't be done or the environment isn't stopped; then nothing is changed.
 */
export function resume(environment: string, options: ResumeArguments): Promise<void> {
  const { dryRun = false, json = false } = options;
  return asOwner('resume', async (pool) => {
    const client = await pool.connect();
    let report: Report;
    try {
      await client.query('begin');
      const missed = await sayingBlockers(pool, 'resume', () =>
        resumeIn(client, environment, options),
      );
      report = { name: environment, dry_run: dryRun, missed };
      // A dry run is the same, taken back.
      await client.query(dryRun ? 'rollback' : 'commit');
    } finally {
      // With an open transaction it isn't used again.
      client.release(true);
    }
    if (json) writeJson(report);
    else process.stdout.write(describe(report));
  });
}

/** @returns what came due while the environment was stopped, by time, with what this made of it */
async function resumeIn(
  client: pg.PoolClient,
  environment: string,
  { missed, reason, except = [] }: ResumeArguments,
): Promise<Report['missed']> {
  const before = await readMissed(client, environment);
  await client
    .query('select from app_private.resume_environment($1, $2, $3, $4::uuid[])', [
      ...[environment, missed, reason],
      except,
    ])
    .catch(asUsageError(...BAD_ARGUMENT_STATES));
  const { rows } = await client.query<{ id: string; status: string }>(
    'select id, status from app_public.feature_flag_schedules where id = any ($1::uuid[])',
    [before.map(({ schedule_id: id }) => id)],
  );
  const after = new Map(rows.map(({ id, status }) => [id, status]));
  return before.map(({ status, ...schedule }) => ({
    ...schedule,
    outcome: outcomeOf(after.get(schedule.schedule_id) ?? status),
  }));
}

/** Of a point all rows, also those of flags in other environments. */
async function readMissed(client: pg.PoolClient, name: string): Promise<readonly Missed[]> {
  const { rows } = await client.query<Missed>(
    `with missed as (
       select s.id, s.plan_id
       from app_public.environments e
       join app_public.feature_flags f on f.environment = e.name
       join app_public.feature_flag_schedules s on s.flag_id = f.id
       where e.name = $1
         and ((s.status = 'suspended' and s.suspended_for = 'stop')
           or (s.status = 'pending' and s.scheduled_at between e.stopped_at and clock_timestamp())))
     select s.id as schedule_id, s.scheduled_at, f.flag_key, f.environment, s.updates, s.plan_id, p.title as plan, s.status
     from app_public.feature_flag_schedules s
     join app_public.feature_flags f on f.id = s.flag_id
     left join app_public.plans p on p.id = s.plan_id
     where s.id in (select m.id from missed m)
       or (s.plan_id in (select m.plan_id from missed m) and s.status in ('suspended', 'pending'))
     order by s.scheduled_at, s.id`,
    [name],
  );
  return rows;
}

function outcomeOf(status: string): Outcome {
  if (status === 'skipped') return 'skip';
  return status === 'suspended' ? 'still suspended' : 'apply';
}

/** What came due meanwhile, and what is done with it. */
export function describe({ name, dry_run: isDry, missed }: Report): string {
  const table = formatTable(
    ['due', 'flag', 'environment', 'sets', 'plan', 'id', 'outcome'],
    missed.map((one) => [
      ...[describeTime(one.scheduled_at), one.flag_key, one.environment],
      ...[describeValues(one.updates), one.plan ?? '', one.schedule_id, one.outcome],
    ]),
  );
  const count = (outcome: Outcome) => missed.filter((one) => one.outcome === outcome).length;
  const numbers = `${count('apply')} to apply, ${count('skip')} skipped, ${count('still suspended')} still suspended`;
  return [
    missed.length === 0 ? 'Nothing came due while it was stopped.\n' : `${table}\n`,
    isDry
      ? `Nothing is changed. ${name} would be resumed: ${numbers}.\n`
      : `${name} is resumed: ${numbers}.\n`,
  ].join('');
}
