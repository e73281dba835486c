import { InvalidArgumentError, Option, type Command } from 'commander';
import type { ListArguments } from './plans/list.ts';
import type { ResumeArguments } from './plans/resume.ts';
import type { StopArguments } from './plans/stop.ts';
import { collect, uuid } from './arguments.ts';

const MAX_LIMIT = 10_000;

/** `halyard plan`, `stop` and `resume`: what an administrator sees of plans, and the emergency stop. */
export function addPlanCommands(program: Command): void {
  addPlan(program);
  program
    .command('stop')
    .description('stop an environment: no schedule changes its flags until it is resumed')
    .argument('<environment>', 'its name')
    .requiredOption('--reason <text>', 'why, for the audit trail: 1 to 500 characters')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nWhat it stops and what not: docs/operations.md, Stop everything.')
    .action(async (environment: string, options: StopArguments) =>
      (await import('./plans/stop.ts')).stop(environment, options),
    );
  program
    .command('resume')
    .description(
      'end the stop of an environment, and decide what becomes of what came due meanwhile',
    )
    .argument('<environment>', 'its name')
    .addOption(
      new Option('--missed <what>', 'what becomes of the schedules that came due meanwhile')
        .choices(['apply', 'skip'])
        .makeOptionMandatory(),
    )
    .option(
      '--except <schedule-id>',
      'a schedule with which the other is done, with all of its plan; may be given several times',
      (text: string, before?: readonly string[]) => collect(uuid(text), before),
    )
    .requiredOption('--reason <text>', 'why, for the audit trail: 1 to 500 characters')
    .option('--dry-run', 'only print what would be done')
    .option('--json', 'print JSON')
    .action(async (environment: string, options: ResumeArguments) =>
      (await import('./plans/resume.ts')).resume(environment, options),
    );
}

function addPlan(program: Command): void {
  const plan = program
    .command('plan')
    .description('list or show plans: changes of several flags at one instant')
    .addHelpText('after', '\nHow plans are made and undone: docs/plans.md.');
  plan
    .command('list')
    .description('print plans, newest first')
    .addOption(
      new Option('--status <status>', 'plans with this status').choices([
        ...['active', 'paused', 'completed', 'cancelled'],
      ]),
    )
    .option('--environment <name>', 'plans that change flags of this environment')
    .option('--flag <key>', 'plans that change this flag')
    .option('--limit <count>', 'at most so many', limit, 50)
    .option('--json', 'print JSON')
    .action(async (options: ListArguments) => (await import('./plans/list.ts')).list(options));
  plan
    .command('show')
    .description('print a plan, what became of its changes, and what stands against them')
    .argument('<id>', "the plan's id, as plan list prints it", uuid)
    .option('--json', 'print JSON')
    .action(async (id: string, options: { json?: boolean }) =>
      (await import('./plans/show.ts')).show(id, options),
    );
}

function limit(text: string): number {
  const count = Number(text);
  if (!Number.isInteger(count) || count < 1 || count > MAX_LIMIT)
    throw new InvalidArgumentError(`Give a whole number from 1 to ${MAX_LIMIT}.`);
  return count;
}
