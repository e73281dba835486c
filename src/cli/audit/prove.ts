import { writeFile } from 'node:fs/promises';
import type pg from 'pg';
import { withLogin } from './connect.ts';
import { exitWith, NotCheckedError } from './exit_codes.ts';

/**
 * `halyard audit prove EVENT_ID`: prints the proof that an event is in the trail, which `audit verify-proof` checks. Exit status
 * 3 when there is no such event or no database.
 *
 * @param eventId a UUID
 */
export function run(eventId: string, { out }: { readonly out?: string }): Promise<void> {
  return exitWith(async () => {
    const proof = await withLogin('auditor', (pool) => prove(pool, eventId));
    const text = `${JSON.stringify(proof, null, 2)}\n`;
    if (out === undefined) process.stdout.write(text);
    else await writeFile(out, text);
    return 0;
  });
}

async function prove(pool: pg.Pool, eventId: string): Promise<unknown> {
  try {
    const { rows } = await pool.query<{ proof: unknown }>('select audit.prove($1) as proof', [
      eventId,
    ]);
    return rows[0]?.proof;
  } catch (error) {
    // no_data_found: our own sentence.
    if (error instanceof Error && 'code' in error && error.code === 'P0002')
      throw new NotCheckedError(error.message, { cause: error });
    throw error;
  }
}
