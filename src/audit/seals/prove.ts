import pg from 'pg';
import type { Proof } from './proof.ts';

/** What gives the proof of the event with the id $1, as `proof`. */
export const PROVE = {
  name: 'prove_event',
  text: 'select audit.prove($1::uuid) as proof',
} as const;

/**
 * Reads a proof by PROVE.
 *
 * @param ask runs the statement, and gives its rows
 * @returns null when no event with this id is sealed
 * @throws the database's error otherwise
 */
export async function readProof(
  ask: () => Promise<{ readonly rows: readonly unknown[] }>,
): Promise<Proof | null> {
  try {
    const [row] = (await ask()).rows as { readonly proof: Proof }[];
    return row?.proof ?? null;
  } catch (error) {
    // no_data_found
    if (error instanceof pg.DatabaseError && error.code === 'P0002') return null;
    throw error;
  }
}
