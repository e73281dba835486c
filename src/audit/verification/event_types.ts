import type pg from 'pg';
import { EVENT_TYPES, type EventType } from '../event_types.ts';
import type { Problem } from './verify.ts';

/**
 * The catalogue of event types as the database has it, in its order.
 *
 * @param client an admin, an auditor or the owner
 * @throws the database's errors
 */
export async function readEventTypes(client: pg.ClientBase | pg.Pool): Promise<EventType[]> {
  const { rows } = await client.query<EventType>(
    'select type, level, description, metadata_keys from audit.event_types order by position',
  );
  return rows;
}

/**
 * Compares the catalogue, from which events get their level, with that of this version. An owner can write the table, so the rows of the
 * release are outside the database, as the functions are.
 *
 * @param pool as an auditor
 * @returns one problem that names the types, or none
 * @throws the database's errors
 */
export async function eventTypeProblems(pool: pg.Pool): Promise<Problem[]> {
  const found = new Map((await readEventTypes(pool)).map((row) => [row.type, row]));
  const differences = EVENT_TYPES.flatMap((expected) => {
    const difference = differenceOf(expected, found.get(expected.type));
    found.delete(expected.type);
    return difference === null ? [] : [`${expected.type} (${difference})`];
  });
  const all = [...differences, ...[...found.keys()].map((type) => `${type} (added)`)];
  if (all.length === 0) return [];
  const detail = `Of the event types ${all.length} aren't as this version has them: ${all.slice(0, 10).join(', ')}${all.length > 10 ? ', …' : ''}. Another version's migrations, or an owner, wrote them; the levels of events since then may be wrong.`;
  return [{ status: 'event_type_altered', seal: null, seqs: [], detail }];
}

function differenceOf(expected: EventType, found: EventType | undefined): string | null {
  if (found === undefined) return 'missing';
  if (found.level !== expected.level) return `level ${found.level} and not ${expected.level}`;
  if (found.description !== expected.description) return 'description';
  return String(found.metadata_keys) === String(expected.metadata_keys) ? null : 'metadata_keys';
}
