import { writeFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import type pg from 'pg';
import { withLogin } from './connect.ts';
import { exitWith, NotCheckedError, parsing, UsageError } from './exit_codes.ts';

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/**
 * `halyard audit prove EVENT_ID`: prints the proof that an event is in the trail, which `audit verify-proof` checks. Exit status
 * 2 for bad arguments, 3 when there is no such event or no database.
 */
export function run(args: string[]): Promise<void> {
  return exitWith(async () => {
    const { values, positionals } = parsing(() =>
      parseArgs({ args, options: { out: { type: 'string' } }, allowPositionals: true }),
    );
    const [eventId, ...rest] = positionals;
    if (eventId === undefined || rest.length > 0 || !UUID.test(eventId))
      throw new UsageError("Name one event by its id, as audit.events has it and copies' eventId.");
    const proof = await withLogin('auditor', (pool) => prove(pool, eventId));
    const text = `${JSON.stringify(proof, null, 2)}\n`;
    if (values.out === undefined) process.stdout.write(text);
    else await writeFile(values.out, text);
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
