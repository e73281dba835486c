import type pg from 'pg';
import { expect, test } from 'vitest';
import { value } from '../../support/actors.ts';
import { insertFlag } from '../../support/factory.ts';
import { problemsOf, reconcileAs, withOwner } from '../../support/reconcile.ts';
import { briefRowProblems, makeRows, pastTriggers } from '../../support/row_problems.ts';
import { findings, sealAll } from '../../support/sealed_trail.ts';
import { deadLetters } from '../../support/trail.ts';
import { useFreshDatabase } from '../../support/worker.ts';

const FLAGS = 'app_public.feature_flags';
const SCHEDULES = 'app_public.feature_flag_schedules';

const REFUSE = 'alter table audit.events add constraint no check (id is null) not valid';
const MEND = 'alter table audit.events drop constraint no';

/** Seals what is queued, and returns what is wrong: with the trail, with the rows, and as dead letters. */
async function wrong(client: pg.ClientBase): Promise<unknown[]> {
  await sealAll(client);
  return [
    ...(await findings(client)),
    ...(await briefRowProblems(client)),
    ...(await deadLetters(client)),
  ];
}

/** The events with a number that say something of this share of a flag: type, revision, reconciled, and the id that was taken. */
async function numbered(client: pg.ClientBase, share: number): Promise<unknown> {
  const { rows } = await client.query(
    `select e.event_type as type, e.revision::int, e.reconciled, e.metadata ->> 'repeatedId' as repeated
     from audit.events e
     join audit.ledger l on l.event_id = e.id and l.occurred_at = e.occurred_at
     where e.metadata #>> '{after,rolloutPercentage}' = $1
     order by l.seq`,
    [String(share)],
  );
  return rows;
}

/** A flag of revision 4 that somebody puts back, past the triggers, to what it was at revision 2. */
async function putBack(client: pg.ClientBase): Promise<string> {
  const flag = await insertFlag(client);
  for (const share of [1, 2, 3])
    await client.query(`update ${FLAGS} set rollout_percentage = $2 where id = $1`, [
      ...[flag.id, share],
    ]);
  await sealAll(client);
  await pastTriggers(
    client,
    `update ${FLAGS} set revision = 2, rollout_percentage = 1 where id = '${flag.id}'`,
  );
  return flag.id;
}

const set = (client: pg.ClientBase, share: number) =>
  client.query(`update ${FLAGS} set rollout_percentage = $1`, [share]);

test('a row that is recorded as found gets a revision above all that the trail has, so that its next changes have ids of their own', async () => {
  const database = await useFreshDatabase();
  await withOwner(database, async (client) => {
    const { moved } = await makeRows(client);
    const id = await putBack(client);
    await pastTriggers(client, `update ${SCHEDULES} set revision = 1 where id = '${moved.id}'`);
    expect(await reconcileAs(database, 'recording')).toMatchObject({ fromRows: 2, unexplained: 0 });
    const revision = (table: string, row: string) =>
      value(client, `select revision::int from ${table} where id = $1`, [row]);
    expect(await revision(FLAGS, id)).toBe(5);
    expect(await revision(SCHEDULES, moved.id)).toBe(3);
    expect(await wrong(client)).toEqual([]);
    await set(client, 77);
    await client.query(`update ${SCHEDULES} set status = 'cancelled' where id = $1`, [moved.id]);
    expect(await wrong(client)).toEqual([]);
    expect(await problemsOf(client)).toEqual([]);
    expect(await numbered(client, 77)).toContainEqual({
      ...{ type: 'feature_flag.updated', revision: 6, reconciled: false, repeated: null },
    });
    expect(await reconcileAs(database, 'full')).toMatchObject({ fromRows: 0, unexplained: 0 });
  });
});

test('only the command that records rows raises a revision', async () => {
  const database = await useFreshDatabase();
  await withOwner(database, async (client) => {
    const { id } = await insertFlag(client);
    await client.query(`update ${FLAGS} set revision = 9 where id = $1`, [id]);
    expect(await value(client, `select revision::int from ${FLAGS}`)).toBe(1);
  });
});

test('the change of a row that was put back past the triggers is numbered under an id of its own, and marked', async () => {
  const database = await useFreshDatabase();
  await withOwner(database, async (client) => {
    const id = await putBack(client);
    await set(client, 77);
    await sealAll(client);
    expect(await deadLetters(client)).toEqual([]);
    expect(await findings(client)).toEqual([]);
    const taken = await value(
      client,
      `select id from audit.events where metadata #>> '{after,rolloutPercentage}' = '2'`,
    );
    expect(await numbered(client, 77)).toEqual([
      { type: 'feature_flag.updated', revision: 3, reconciled: true, repeated: taken },
    ]);
    // Of that the alarm doesn't end.
    expect(await briefRowProblems(client)).toEqual([[id, 'row_differs', [['revision', 4, 3]]]]);
    // A dead letter about such a change isn't taken for what the trail has.
    await client.query(REFUSE);
    await set(client, 78);
    await client.query(MEND);
    expect(await reconcileAs(database, 'dead_letters')).toMatchObject({
      fromLetters: 1,
      refused: 0,
    });
    // The row has come up with the trail, and is as its last event says.
    expect(await wrong(client)).toEqual([]);
    expect(await numbered(client, 78)).toMatchObject([
      { type: 'feature_flag.updated', revision: 4, reconciled: true },
    ]);
  });
});

test('a change under an id of its own may wait for its number while another incarnation begins', async () => {
  const database = await useFreshDatabase();
  await withOwner(database, async (client) => {
    await putBack(client);
    await set(client, 77);
    await client.query('select app_private.settle_repeated_events()');
    await client.query(`select app_private.accept_restore('a test', 'skip', false)`);
    await sealAll(client);
    expect(await numbered(client, 77)).toMatchObject([{ revision: 3, reconciled: true }]);
    expect(await findings(client)).toEqual([]);
  });
});

test('a setting whose row was deleted goes on above what the trail has of it', async () => {
  const database = await useFreshDatabase();
  await withOwner(database, async (client) => {
    const setTo = (text: string) =>
      value<string>(client, `select app_private.set_setting('retry_base', $1)`, [text]);
    await setTo('1 second');
    await setTo('2 seconds');
    await sealAll(client);
    await pastTriggers(client, `delete from app_private.settings where name = 'retry_base'`);
    expect(await setTo('3 seconds')).toBe('3');
    expect(await setTo('4 seconds')).toBe('4');
    expect(await wrong(client)).toEqual([]);
  });
});

test.for([
  ['when they are written', false],
  ['when some wait as dead letters', true],
] as const)(
  'a row that is made, deleted and made again with its id in one transaction has an event for each, %s',
  async ([, areLetters]) => {
    const database = await useFreshDatabase();
    await withOwner(database, async (client) => {
      const make = `insert into ${FLAGS} (id, flag_key, rollout_percentage) values (gen_random_uuid(), 'twice', 1)`;
      await client.query('begin');
      await client.query(make);
      if (areLetters) await client.query(REFUSE);
      await client.query(
        `with gone as (delete from ${FLAGS} returning id, flag_key)
       select set_config('test.id', id::text, true) from gone`,
      );
      await client.query(
        `insert into ${FLAGS} (id, flag_key, rollout_percentage) values (current_setting('test.id')::uuid, 'twice', 2)`,
      );
      await client.query('commit');
      if (areLetters) {
        await client.query(MEND);
        expect(await reconcileAs(database, 'full')).toMatchObject({ fromLetters: 2, fromRows: 0 });
      } else {
        // The sequencer can't write it under another id just now.
        await client.query(REFUSE);
        await sealAll(client);
        expect(await findings(client)).toEqual([]);
        await client.query(MEND);
        expect(await reconcileAs(database, 'full')).toMatchObject({ fromLetters: 1, fromRows: 0 });
      }
      expect(await wrong(client)).toEqual([]);
      expect(await numbered(client, 2)).toMatchObject([{ type: 'feature_flag.created' }]);
      await set(client, 3);
      expect(await wrong(client)).toEqual([]);
    });
  },
);
