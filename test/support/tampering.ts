import { actAs, withActors } from './actors.ts';
import { findings, sealFlags, tamper, type Finding } from './sealed_trail.ts';
import type { TestDatabase } from './database.ts';

/** Three seals over 25 events (1 to 10, 11 to 20, 21 to 25), changed by the statements; gives what an auditor finds. */
export async function afterTampering(
  database: TestDatabase,
  ...statements: string[]
): Promise<Finding[]> {
  return withActors(database, async (client) => {
    await sealFlags(client, 25);
    await tamper(client, ...statements);
    await actAs(client, 'halyard_auditor');
    return findings(client);
  });
}

/** The condition for the event that has this number. */
export const event = (seq: number) =>
  `(id, occurred_at) = (select event_id, occurred_at from audit.ledger where seq = ${seq})`;

/** Of each finding its status, seal and numbers. */
export const brief = (found: readonly Finding[]) =>
  found.map(({ seal, status, seqs }) => [status, seal, seqs]);
