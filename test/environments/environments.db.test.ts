import type pg from 'pg';
import { describe, expect, test } from 'vitest';

import { value } from '../support/actors.ts';
import { cloneDatabase, useDatabase, withClient, withRollback } from '../support/database.ts';
import { insertFlag } from '../support/factory.ts';
import { withoutAudit } from '../support/reconcile.ts';
import { sqlStateOf } from '../support/roles.ts';
import { briefRowProblems, pastTriggers } from '../support/row_problems.ts';

const database = useDatabase();

async function eventsOf(client: pg.ClientBase): Promise<unknown[]> {
  const { rows } = await client.query<{ event: unknown }>(
    `select jsonb_build_array(event_type, level, environment, metadata - '{rowCreatedAt}'::text[]) as event
     from audit.events where event_type like 'environment.%' order by occurred_at, revision`,
  );
  return rows.map(({ event }) => event);
}

async function reconcile(client: pg.ClientBase, scope: string): Promise<void> {
  let cursor: unknown = null;
  do {
    const { rows } = await client.query<{ cursor: unknown }>(
      'select cursor from app_private.reconcile_audit($1, $2)',
      [scope, cursor === null ? null : JSON.stringify(cursor)],
    );
    cursor = rows[0]?.cursor ?? null;
  } while (cursor !== null);
}

test('SQL at a prompt makes and deletes environments, each with its event', async () => {
  await withRollback(database, async (client) => {
    await client.query(`insert into app_public.environments (name) values ('one'), ('two')`);
    await client.query(`delete from app_public.environments where name in ('one', 'two')`);
    await client.query(`insert into app_public.environments (name) values ('one')`);
    expect(await eventsOf(client)).toEqual([
      ['environment.created', 'info', 'one', { name: 'one', after: { createdBy: null } }],
      ['environment.created', 'info', 'two', { name: 'two', after: { createdBy: null } }],
      ['environment.deleted', 'info', 'one', { name: 'one', before: { createdBy: null } }],
      ['environment.deleted', 'info', 'two', { name: 'two', before: { createdBy: null } }],
      ['environment.created', 'info', 'one', { name: 'one', after: { createdBy: null } }],
    ]);
    expect(await briefRowProblems(client)).toEqual([]);
  });
});

test.for<[string, string, string]>([
  ['renamed', `update app_public.environments set name = 'other' where name = 'staging'`, 'ZF010'],
  ['given another maker', `update app_public.environments set created_by = 'eve'`, 'ZF010'],
  ['truncated', 'truncate app_public.environments cascade', 'ZF009'],
  [
    'deleted with a flag in it',
    `delete from app_public.environments where name = 'staging'`,
    '23503',
  ],
  ['named with a space', `insert into app_public.environments (name) values ('a b')`, '23514'],
])('one can’t be %s', async ([, statement, state]) => {
  await withRollback(database, async (client) => {
    await insertFlag(client, { environment: 'staging' });
    expect(await sqlStateOf(client, () => client.query(statement))).toEqual(
      // Which of the two it is depends on PostgreSQL's version.
      state === '23503' ? expect.stringMatching(/^2300[13]$/) : state,
    );
    expect(await eventsOf(client)).toEqual([]);
  });
});

test('a database begins with production alone, which has no event', async () => {
  await withRollback(database, async (client) => {
    expect(
      await value(
        client,
        'select revision::int from app_public.environments order by created_at limit 1',
      ),
    ).toBe(0);
    expect(await briefRowProblems(client)).toEqual([]);
  });
});

describe('past the triggers', () => {
  const past = async (work: (client: pg.Client) => Promise<void>) => {
    const clone = await cloneDatabase(database.name);
    try {
      await withClient(clone.ownerUrl, work);
    } finally {
      await clone.drop();
    }
  };

  test('one that was made, changed or deleted is found, and can be recorded', async () => {
    await past(async (client) => {
      await client.query(`insert into app_public.environments (name) values ('gone'), ('forged')`);
      await pastTriggers(
        client,
        `insert into app_public.environments (name) values ('secret')`,
        `delete from app_public.environments where name = 'gone'`,
        `update app_public.environments set created_by = 'eve' where name in ('forged', 'production')`,
      );
      expect((await briefRowProblems(client)).toSorted()).toEqual([
        ['forged', 'row_differs', [['createdBy', null, 'eve']]],
        ['gone', 'row_vanished', []],
        ['production', 'row_differs', [['createdBy', null, 'eve']]],
        ['secret', 'row_unrecorded', []],
      ]);
      await reconcile(client, 'recording');
      expect((await eventsOf(client)).slice(2).toSorted()).toEqual([
        [
          ...['environment.reconciled', 'warning', 'forged'],
          {
            ...{ name: 'forged', revisions: [2], rowRevision: 2, after: { createdBy: 'eve' } },
            differs: [{ column: 'createdBy', trail: null, row: 'eve' }],
          },
        ],
        [
          ...['environment.reconciled', 'warning', 'production'],
          {
            ...{ name: 'production', revisions: [1], rowRevision: 1, after: { createdBy: 'eve' } },
            differs: [{ column: 'createdBy', trail: null, row: 'eve' }],
          },
        ],
        [
          ...['environment.reconciled', 'warning', 'secret'],
          {
            ...{ name: 'secret', revisions: [1], rowRevision: 1, after: { createdBy: null } },
            differs: [],
          },
        ],
      ]);
      expect(await briefRowProblems(client)).toEqual([['gone', 'row_vanished', []]]);
      // Made again and deleted properly, the trail says what is.
      await client.query(`insert into app_public.environments (name) values ('gone')`);
      await client.query(`delete from app_public.environments where name = 'gone'`);
      expect(await briefRowProblems(client)).toEqual([]);
    });
  });

  test('a stop that was begun, ended or forged there is found', async () => {
    await past(async (client) => {
      await client.query(
        `insert into app_public.environments (name) values ('begun'), ('ended'), ('forged')`,
      );
      for (const name of ['ended', 'forged'])
        await client.query(`select app_private.stop_environment($1, 'errors')`, [name]);
      await pastTriggers(
        client,
        `update app_public.environments set stopped_at = now(), stop_reason = 'none' where name = 'begun'`,
        `update app_public.environments set stopped_at = null, stop_reason = null where name = 'ended'`,
        `update app_public.environments set stop_reason = 'drill', created_by = 'eve' where name = 'forged'`,
      );
      const at = expect.any(String) as string;
      expect((await briefRowProblems(client)).toSorted()).toEqual([
        [
          'begun',
          'row_differs',
          [
            ['stopReason', null, 'none'],
            ['stoppedAt', null, at],
          ],
        ],
        [
          'ended',
          'row_differs',
          [
            ['stopReason', 'errors', null],
            ['stoppedAt', at, null],
          ],
        ],
        [
          'forged',
          'row_differs',
          [
            ['createdBy', null, 'eve'],
            ['stopReason', 'errors', 'drill'],
          ],
        ],
      ]);
      await reconcile(client, 'recording');
      expect(await briefRowProblems(client)).toEqual([]);
    });
  });

  test('a stop and its end whose events are lost are found by the next reconciliation', async () => {
    await past(async (client) => {
      const lost = async (call: string, key: string) => {
        await withoutAudit(client, () => client.query(`select from app_private.${call}`));
        await reconcile(client, 'incremental');
        expect((await eventsOf(client)).at(-1)).toMatchObject([
          ...['environment.reconciled', 'warning', 'production'],
          { after: { [key]: expect.anything() as unknown } },
        ]);
      };
      await lost(`stop_environment('production', 'x')`, 'stoppedAt');
      await lost(`resume_environment('production', 'apply', 'x')`, 'lastResume');
      expect(await briefRowProblems(client)).toEqual([]);
    });
  });

  test.each(['events', 'rows'])(
    'an event that can’t be written is a dead letter, and is replayed from its %s',
    async (holds) => {
      await past(async (client) => {
        const broken = `alter table audit.events add constraint broken check (event_type not like 'environment.%') not valid`;
        await client.query(broken);
        await client.query(`insert into app_public.environments (name) values ('late')`);
        expect(await value(client, 'select count(*)::int from audit.dead_letters')).toBe(1);
        // As when the event couldn't even be made.
        if (holds === 'rows')
          await client.query(`update audit.dead_letters set content = content - 'events'`);
        await client.query('alter table audit.events drop constraint broken');
        await reconcile(client, 'full');
        expect(await eventsOf(client)).toEqual([
          ['environment.created', 'info', 'late', { name: 'late', after: { createdBy: null } }],
        ]);
        expect(await briefRowProblems(client)).toEqual([]);
      });
    },
  );
});
