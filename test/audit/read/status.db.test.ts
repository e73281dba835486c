import type pg from 'pg';
import { expect, test } from 'vitest';
import { withActors } from '../../support/actors.ts';
import { useDatabase } from '../../support/database.ts';
import { insertFlag } from '../../support/factory.ts';
import { become } from '../../support/roles.ts';
import { sealFlags } from '../../support/sealed_trail.ts';

const database = useDatabase();
const LONG_AGO = `'2026-01-02T03:04:05Z'`;
const SINCE = '2026-01-02T03:04:05.000000Z';

/** The problems that an auditor reads once these statements were run, as the superuser. */
async function problemsAfter(...statements: string[]): Promise<unknown> {
  return withActors(database, async (client: pg.ClientBase) => {
    await client.query('set local role postgres');
    await sealFlags(client, 2);
    for (const statement of statements) await client.query(statement);
    await become(client, 'auditor');
    const { rows } = await client.query<{ problems: string[] }>(
      'select problems from audit.trail_status()',
    );
    return rows[0]?.problems;
  });
}

test('a trail in order has no problem', async () => {
  expect(await problemsAfter()).toEqual([]);
});

test('events that wait for less than a minute are none', async () => {
  await withActors(database, async (client) => {
    await insertFlag(client);
    await become(client, 'admin');
    const { rows } = await client.query('select problems from audit.trail_status()');
    expect(rows).toEqual([{ problems: [] }]);
  });
});

test.for([
  [
    'a dead letter',
    `insert into audit.dead_letters (occurred_at, content, error_code, error_message) values (${LONG_AGO}, '{}', '00000', '')`,
    `Events that could not be written wait as dead letters, the oldest since ${SINCE}.`,
  ],
  [
    'a queue that stands still',
    `insert into audit.queue (event_id, occurred_at) values (gen_random_uuid(), ${LONG_AGO})`,
    `Events wait for their number and their seal since ${SINCE}: no worker seals them.`,
  ],
  [
    'a destination that is ahead',
    `insert into audit.divergences (found_in, destination, incarnation, seal_no, last_seq, head, sealed_at)
     values (1, 'copy', gen_random_uuid(), 9, 9, 'x', now())`,
    'A destination has more than the trail (tail_cut): nothing is numbered or delivered until an operator decides.',
  ],
  [
    'a destination of the original',
    `alter table audit.incarnations disable trigger user; update audit.incarnations set refused_destinations = '{copy}'`,
    'Nothing is delivered to copy: it belongs to the original of this copy.',
  ],
  [
    'a destination that confirms nothing',
    `alter table audit.ledger disable trigger user; update audit.ledger set sequenced_at = ${LONG_AGO};
     insert into audit.cursors (destination) values ('copy')`,
    `Delivery to copy stands still: it has not confirmed an event that was numbered at ${SINCE}.`,
  ],
  [
    'rows that differ',
    `insert into audit.reconciliations (scope, started_at, finished_at, rows_unexplained) values ('full', now(), '2099-01-01T00:00:00Z', 1)`,
    'Rows differ from the trail (row_differs, row_unrecorded or row_vanished), as the check of 2099-01-01T00:00:00.000000Z found.',
  ],
  [
    'rows that were not checked lately',
    `insert into audit.reconciliations (scope, started_at, finished_at, rows_unexplained) values ('full', now(), ${LONG_AGO}, 0)`,
    `Rows were last compared with the trail at ${SINCE}, more than two days ago.`,
  ],
  [
    'rows that were never checked',
    `alter table audit.incarnations disable trigger user; update audit.incarnations set started_at = ${LONG_AGO}`,
    'Rows were never compared with the trail.',
  ],
  [
    'a trigger that is disabled',
    'alter table app_public.feature_flags disable trigger _900_audit_update',
    'trigger_disabled, app_public.feature_flags: The trigger _900_audit_update is disabled: changes leave no event, or go unrefused.',
  ],
  [
    'a table that is broken',
    'alter table audit.dead_letters rename to lost',
    "What is wrong with the trail can't be read in full",
  ],
] as const)('%s is a problem', async ([, statement, problem]) => {
  const problems = await problemsAfter(statement);
  expect(problems).toContainEqual(expect.stringContaining(problem));
});
