import { proofText } from '../../audit/seals/proof.ts';
import { readValue } from '../../postgres/value.ts';
import { withLogin } from './connect.ts';
import { exitWith } from './exit_with.ts';
import { assertWritable, writeWhole } from './out_file.ts';

/**
 * `halyard audit prove EVENT_ID`: prints the proof that an event is in the trail, which `audit verify-proof` checks. Exit status
 * 3 when there is no such event or no database.
 *
 * @param eventId a UUID
 */
export function run(eventId: string, { out }: { readonly out?: string }): Promise<void> {
  return exitWith(async () => {
    // A proof replaces an older one.
    if (out !== undefined) await assertWritable(out, true);
    const proof = await withLogin('auditor', (pool) =>
      readValue(pool, 'select audit.prove($1)', [eventId]),
    );
    const text = proofText(proof);
    if (out === undefined) process.stdout.write(text);
    else await writeWhole(out, (file) => file.writeFile(text));
    return 0;
  });
}
