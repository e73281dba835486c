import { Option, type Command } from 'commander';
import { SINKS } from '../audit/delivery/sinks/index.ts';
import { collect, matching, notEmpty, uuid } from './arguments.ts';
import type { ExportArguments } from './audit/export.ts';
import type { ReconcileArguments } from './audit/reconcile.ts';
import type { RetainArguments } from './audit/retain.ts';
import type { VerifyArguments } from './audit/verify.ts';
import type { VerifyProofArguments } from './audit/verify_proof.ts';

const seq = matching(/^[1-9]\d{0,14}$/, 'Give the number of an event: a whole number from 1 on.');

/** The sinks that can be read. */
const READABLE = SINKS.flatMap((kind) => (kind.readAnchors ? kind.name : [])).join(', ');

/** Adds `halyard audit` with its subcommands. */
export function addAuditCommand(program: Command): void {
  const audit = program
    .command('audit')
    .description('verify, prove, export, reconcile or retain the audit trail')
    .addHelpText('after', '\nWhat is proved, and how: docs/audit.md.');
  addVerify(audit);
  addProofs(audit);
  addExport(audit);
  audit
    .command('reconcile')
    .description('bring into the trail what it lacks: dead letters, lost events')
    .option('--full', 'compare all rows, and not only recent ones')
    .option('--record-rows', 'also record, as found, rows that differ from the trail')
    .action(async (options: ReconcileArguments) =>
      (await import('./audit/reconcile.ts')).run(options),
    );
  audit
    .command('retain')
    .description('purge old months that are sealed, delivered and unchanged')
    .requiredOption('--keep <interval>', "how much of the trail to keep, as in '24 months'")
    .option('--dry-run', 'only print what would be purged')
    .action(async (options: RetainArguments) => (await import('./audit/retain.ts')).run(options));
}

function addVerify(audit: Command): void {
  audit
    .command('verify')
    .description('check that the trail is what was sealed, and the rows what it says')
    .option('--from <seq>', 'the first event to check', (text) => Number(seq(text)))
    .option('--to <seq>', 'the last event to check', (text) => Number(seq(text)))
    .option('--anchors <file>', `a copy to compare with: a file, - or ${READABLE}`, notEmpty)
    .option('--no-rows', 'leave out the comparison of rows and triggers with the trail')
    .option('--json', 'print JSON')
    .action(async (options: VerifyArguments) => (await import('./audit/verify.ts')).run(options));
}

function addProofs(audit: Command): void {
  audit
    .command('prove')
    .description('print the proof that an event is in the trail')
    .argument('<event-id>', "the event's id, as in audit.events and in copies", uuid)
    .option('--out <file>', 'write the proof into this file', notEmpty)
    .action(async (eventId: string, options: { out?: string }) =>
      (await import('./audit/prove.ts')).run(eventId, options),
    );
  audit
    .command('verify-proof')
    .description('check a proof without a database')
    .argument('<file>', 'a proof that audit prove has written; - is standard input')
    .option('--message <file>', "a copy with the event's line; needed when the event was purged")
    .option('--anchors <file>', 'a copy to compare the head with')
    .action(async (file: string, options: VerifyProofArguments) =>
      (await import('./audit/verify_proof.ts')).run(file, options),
    );
}

function addExport(audit: Command): void {
  audit
    .command('export')
    .description('print the trail as NDJSON or CSV')
    .option('--from <time>', 'events from this time on, as 2030-01-31T09:00:00Z')
    .option('--to <time>', 'events before this time')
    .option('--flag <key>', 'events of this flag')
    .option('--environment <name>', 'events of this environment')
    .option('--actor <who>', 'events of this admin, by user id or e-mail address')
    .option('--type <type>', 'events of this type; may be given several times', collect)
    .option('--after <seq>', 'events after this number')
    .option('--until <seq>', 'events up to this number')
    .addOption(
      new Option('--order <order>', 'by number: asc, or desc for the newest first').choices([
        'asc',
        'desc',
      ]),
    )
    .option('--limit <count>', 'at most so many events')
    .addOption(
      new Option('--format <format>', 'how it is written')
        .choices(['ndjson', 'csv'])
        .default('ndjson'),
    )
    .option('--out <file>', 'write into this file, which appears when it is whole', notEmpty)
    .option('--force', 'replace the file')
    .action(async (options: ExportArguments) => (await import('./audit/export.ts')).run(options));
}
