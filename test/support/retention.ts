import type pg from 'pg';
import { sealAll } from './sealed_trail.ts';
import { deliverAll, writeOldMonths } from './old_trail.ts';

/** What the verification of the trail finds. */
export const statuses = async (client: pg.ClientBase) => {
  const { rows } = await client.query<{ status: string }>('select status from audit.verify()');
  return [...new Set(rows.map(({ status }) => status))].toSorted();
};

/** What a purge answers of each month. */
export const PURGED = { outcome: 'purged', reason: null, events: '3' };
export const BEHIND = { outcome: 'kept', reason: 'A month before it is kept.' };

/** Three old months of a seal each, delivered. */
export async function writeTrail(client: pg.ClientBase): Promise<string[]> {
  const months = await writeOldMonths(client, 3);
  await sealAll(client, 3);
  await deliverAll(client, 'stdout');
  return months;
}

/** The table of a month of events. */
export const partitionOf = (month = '') => `audit.events_${month.slice(0, 7).replace('-', '_')}`;
