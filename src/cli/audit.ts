/** One subcommand of `halyard audit`: what it is for, and the code that runs it, loaded only then. */
interface Subcommand {
  readonly summary: string;
  readonly load: () => Promise<{ run: (args: string[]) => Promise<void> }>;
}

const SUBCOMMANDS: Record<string, Subcommand> = {
  verify: {
    summary:
      'is the trail what was sealed? [--from SEQ] [--to SEQ] [--anchors FILE|cloudwatch] [--json]',
    load: () => import('./audit/verify.ts'),
  },
  prove: {
    summary: 'the proof that an event is in the trail: EVENT_ID [--out FILE]',
    load: () => import('./audit/prove.ts'),
  },
  'verify-proof': {
    summary: 'checks a proof without a database: FILE [--message FILE] [--anchors FILE]',
    load: () => import('./audit/verify_proof.ts'),
  },
  export: {
    summary:
      'the trail as NDJSON or CSV [--from T] [--to T] [--flag KEY] [--actor WHO] [--type TYPE] [--environment E] [--after SEQ] [--format csv] [--out FILE]',
    load: () => import('./audit/export.ts'),
  },
  reconcile: {
    summary: 'brings into the trail what it lacks: dead letters, lost events [--full]',
    load: () => import('./audit/reconcile.ts'),
  },
  retain: {
    summary:
      "purges old months that are sealed, delivered and unchanged: --keep '24 months' [--dry-run]",
    load: () => import('./audit/retain.ts'),
  },
};

function usage(): string {
  const width = Math.max(...Object.keys(SUBCOMMANDS).map((name) => name.length));
  const lines = Object.entries(SUBCOMMANDS).map(
    ([name, { summary }]) => `  ${name.padEnd(width)}  ${summary}`,
  );
  return `Usage: npm run halyard -- audit SUBCOMMAND\n\n${lines.join('\n')}\n\nWhat is proved, and how: docs/audit.md.\n`;
}

/** `halyard audit`: runs the subcommand that is named first; exit status 2 when there is none of that name. */
export async function audit(args: string[]): Promise<void> {
  const [name, ...rest] = args;
  const subcommand =
    name !== undefined && Object.hasOwn(SUBCOMMANDS, name) ? SUBCOMMANDS[name] : undefined;
  if (subcommand === undefined) {
    process.stderr.write(
      name === undefined ? usage() : `There is no subcommand ${name} of audit.\n\n${usage()}`,
    );
    process.exitCode = 2;
    return;
  }
  await (await subcommand.load()).run(rest);
}
