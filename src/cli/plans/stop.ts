import { asUsageError } from '../audit/exit_with.ts';
import { asOwner, BAD_ARGUMENT_STATES, sayingBlockers, writeJson } from './as_owner.ts';
import { describeTime } from './updates.ts';

export interface StopArguments {
  readonly reason: string;
  readonly json?: boolean;
}

/** What is stopped, and what waits for its resume. */
interface Stopped {
  readonly name: string;
  readonly stopped_at: Date;
  readonly pending: number;
  readonly next_at: Date | null;
}

/**
 * `halyard stop ENVIRONMENT`: stops an environment as the owner. From the moment that this command ends no schedule changes its
 * flags. Exit status 2 for bad arguments, 1 when it can't be done or the environment is stopped already; then nothing is changed.
 */
export function stop(environment: string, { reason, json = false }: StopArguments): Promise<void> {
  return asOwner('stop', async (pool) => {
    const call = 'select from app_private.stop_environment($1, $2)';
    await sayingBlockers(pool, 'stop', () => pool.query(call, [environment, reason])).catch(
      asUsageError(...BAD_ARGUMENT_STATES),
    );
    // Behind the stop, which holds whether or not this can be read.
    const { rows } = await pool.query<Stopped>(
      `select e.name, e.stopped_at, count(s.id)::integer as pending, min(s.scheduled_at) as next_at
       from app_public.environments e
       left join app_public.feature_flags f on f.environment = e.name
       left join app_public.feature_flag_schedules s on s.flag_id = f.id and s.status = 'pending'
       where e.name = $1
       group by e.name`,
      [environment],
    );
    const [stopped] = rows;
    if (stopped === undefined) throw new Error(`${environment} is gone.`);
    if (json) writeJson({ ...stopped, reason });
    else process.stdout.write(describe(stopped));
  });
}

function describe({ name, stopped_at: since, pending, next_at: next }: Stopped): string {
  const first = next === null ? '' : `, the first of them for ${describeTime(next)}`;
  return [
    `${name} is stopped since ${describeTime(since)}: no schedule changes its flags until it is resumed.`,
    `Schedules that are pending: ${pending}${first}. What comes due is suspended.`,
    `To go on: npm run halyard -- resume ${name} --missed apply|skip --reason …`,
    '',
  ].join('\n');
}
