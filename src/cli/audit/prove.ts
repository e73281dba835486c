import { writeFile } from 'node:fs/promises';
import { withLogin } from './connect.ts';
import { exitWith } from './exit_codes.ts';

/**
 * `halyard audit prove EVENT_ID`: prints the proof that an event is in the trail, which `audit verify-proof` checks. Exit status
 * 3 when there is no such event or no database.
 *
 * @param eventId a UUID
 */
export function run(eventId: string, { out }: { readonly out?: string }): Promise<void> {
  return exitWith(async () => {
    const { rows } = await withLogin('auditor', (pool) =>
      pool.query<{ proof: unknown }>('select audit.prove($1) as proof', [eventId]),
    );
    const text = `${JSON.stringify(rows[0]?.proof, null, 2)}\n`;
    if (out === undefined) process.stdout.write(text);
    else await writeFile(out, text);
    return 0;
  });
}
