import { queryOf } from '../../audit/delivery/outbox.ts';
import { reconcile, type Reconciled } from '../../audit/reconciliation/reconcile.ts';
import { readValue } from '../../postgres/value.ts';
import { withLogin } from './connect.ts';
import { exitWith, FOUND_PROBLEMS } from './exit_with.ts';

export interface ReconcileArguments {
  readonly full?: boolean;
  readonly recordRows?: boolean;
}

/**
 * `halyard audit reconcile [--full] [--record-rows]`: brings into the trail what is missing from it, and says what that was.
 * `--record-rows` implies `--full`. Exit status 0, 1 when dead letters or rows that differ from the trail remain, 3 when it could
 * not be done.
 */
export function run({ full = false, recordRows = false }: ReconcileArguments): Promise<void> {
  const scope = recordRows ? 'recording' : full ? 'full' : 'incremental';
  return exitWith(() =>
    withLogin('owner', async (pool) => {
      const done = await reconcile(queryOf(pool), scope, new AbortController().signal);
      const letters = Number(await readValue(pool, 'select app_private.dead_letter_count()'));
      process.stdout.write(summarize(done, letters));
      return letters > 0 || (done.unexplained ?? 0) > 0 ? FOUND_PROBLEMS : 0;
    }),
  );
}

/** What a run did, in a line for each thing that there is to say. */
export function summarize(
  { fromLetters, fromRows, unexplained }: Reconciled,
  letters: number,
): string {
  const lines = [
    fromLetters + fromRows === 0
      ? 'Nothing was missing.'
      : `Wrote ${fromLetters + fromRows} events: ${fromLetters} from dead letters, ${fromRows} in place of lost ones.`,
  ];
  if (letters > 0)
    lines.push(`Dead letters that remain: ${letters}. See "Dead letters" in docs/operations.md.`);
  if ((unexplained ?? 0) > 0)
    lines.push(
      `Rows that differ from the trail: ${unexplained}. \`audit verify\` names them; see "Rows unexplained" in docs/operations.md.`,
    );
  return `${lines.join('\n')}\n`;
}
