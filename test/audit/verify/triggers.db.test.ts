import type pg from 'pg';
import { expect, onTestFinished, test } from 'vitest';
import { eventTypeProblems } from '../../../src/audit/verification/event_types.ts';
import { functionProblems } from '../../../src/audit/verification/functions.ts';
import { makePool } from '../../../src/postgres/pool.ts';
import { actAs, withActors } from '../../support/actors.ts';
import { useDatabase, withClient, withRollback } from '../../support/database.ts';
import { makeTestLog } from '../../support/log.ts';
import { become, sqlStateOf } from '../../support/roles.ts';
import { useFreshDatabase } from '../../support/worker.ts';

const database = useDatabase();

async function problems(client: pg.ClientBase): Promise<string[]> {
  const { rows } = await client.query<{ status: string; table_name: string }>(
    'select status, table_name from app_private.trigger_problems() order by 1, 2',
  );
  return rows.map(({ status, table_name }) => `${status} ${table_name}`);
}

const FLAGS = 'app_public.feature_flags';
const [YEAR, MONTH] = new Date().toISOString().split('-');
const PARTITION = `audit.events_${YEAR ?? ''}_${MONTH ?? ''}`;

/** What an owner can do to a guard, and what is said of it. */
const CASES: readonly (readonly [string, string, readonly string[]])[] = [
  [
    'disabled',
    `alter table ${FLAGS} disable trigger _900_audit_update`,
    [`trigger_disabled ${FLAGS}`],
  ],
  [
    'enabled without always',
    `alter table ${FLAGS} enable trigger _900_audit_update`,
    [`trigger_disabled ${FLAGS}`],
  ],
  [
    'for replicas only',
    `alter table ${FLAGS} enable replica trigger _100_stamp`,
    [`trigger_disabled ${FLAGS}`],
  ],
  [
    'dropped',
    `drop trigger _900_audit on app_private.settings`,
    [`trigger_missing app_private.settings`],
  ],
  [
    'renamed',
    `alter trigger _900_audit on app_private.settings rename to a`,
    ['trigger_added app_private.settings', 'trigger_missing app_private.settings'],
  ],
  [
    'another function',
    `create function pg_temp.nothing() returns trigger language plpgsql as 'begin return null; end';
     create or replace trigger _900_audit_delete after delete on ${FLAGS} for each statement execute function pg_temp.nothing();
     alter table ${FLAGS} enable always trigger _900_audit_delete`,
    [`trigger_altered ${FLAGS}`],
  ],
  [
    'a condition',
    `drop trigger _100_append_only on audit.seals;
     create trigger _100_append_only before update or delete or truncate on audit.seals
       for each statement when (false) execute function app_private.tg__reject_write();
     alter table audit.seals enable always trigger _100_append_only`,
    ['trigger_altered audit.seals'],
  ],
  [
    'for one column, and for fewer occasions',
    `drop trigger _100_append_only on audit.seals;
     create trigger _100_append_only before update of root or truncate on audit.seals
       for each statement execute function app_private.tg__reject_write();
     alter table audit.seals enable always trigger _100_append_only`,
    ['trigger_altered audit.seals'],
  ],
  [
    'its function renamed',
    'alter function app_private.tg_cursors__audit() rename to tg_other',
    Array<string>(3).fill('trigger_altered audit.cursors'),
  ],
  [
    'all of a partition’s',
    `alter table ${PARTITION} disable trigger all`,
    Array<string>(2).fill(`trigger_disabled ${PARTITION}`),
  ],
  [
    'a table that is gone',
    'alter table audit.seals rename to elsewhere',
    ['trigger_added audit.elsewhere', 'trigger_missing audit.seals'],
  ],
  [
    'one more, which lets no event be queued',
    `create function pg_temp.nothing() returns trigger language plpgsql as 'begin return null; end';
     create trigger a before insert on audit.queue for each row execute function pg_temp.nothing()`,
    ['trigger_added audit.queue'],
  ],
  [
    'a rule, which lets no dead letter be written',
    'create rule a as on insert to audit.dead_letters do instead nothing',
    ['trigger_added audit.dead_letters'],
  ],
  [
    'row-level security',
    `alter table audit.ledger disable row level security;
     alter table ${PARTITION} disable row level security;
     alter table app_private.settings disable row level security`,
    ['policies_off app_private.settings', `policies_off ${PARTITION}`, 'policies_off audit.ledger'],
  ],
];

test('the list has every trigger of the catalog, but the one that a rollback takes away', async () => {
  await withRollback(database, async (client) => {
    const { rows: found } = await client.query(
      `select t.tgrelid::regclass::text as table_name, t.tgname::text as trigger_name, t.tgenabled as enabled,
         t.tgtype as type, t.tgqual is not null as has_condition, t.tgfoid::regprocedure::text as function_name
       from pg_trigger t
       where not t.tgisinternal and t.tgparentid = 0 and t.tgname <> '_200_track'
         and t.tgrelid not in (select inhrelid from pg_inherits)
         and t.tgrelid::regclass::text ~ '^(audit|app_)'
       order by 1, 2`,
    );
    const { rows: listed } = await client.query(
      'select * from app_private.expected_triggers() order by 1, 2',
    );
    expect(listed).toEqual(found);
    expect(await problems(client)).toEqual([]);
  });
});

test.for(CASES)('a guard that is not as it must be is found: %s', async ([, sql, expected]) => {
  await withRollback(database, async (client) => {
    await client.query(sql);
    expect(await problems(client)).toEqual(expected);
  });
});

test('an auditor without limits may ask, or a DBA as halyard_auditor', async () => {
  await withActors(database, async (client) => {
    const SQL = [
      'select * from audit.verify_triggers()',
      `select * from audit.verify_rows('feature_flags')`,
    ];
    const states = async () => {
      const found: (string | null)[] = [];
      for (const sql of SQL) found.push(await sqlStateOf(client, () => client.query(sql)));
      return found;
    };
    await actAs(client, 'halyard_auditor');
    expect(await states()).toEqual([null, null]);
    await become(client, 'auditor');
    expect(await states()).toEqual([null, null]);
    await become(client, 'auditor', { environments: ['production'] });
    expect(await states()).toEqual(['42501', '42501']);
    await become(client, 'admin');
    expect(await states()).toEqual(['42501', '42501']);
  });
});

test('an event type that an owner changed, deleted or made up is named', async () => {
  const own = await useFreshDatabase();
  const settings = { role: 'halyard_auditor' };
  const pool = makePool(own.rootUrl, { name: 'halyard test', settings, log: makeTestLog().log });
  onTestFinished(() => pool.end());
  expect(await eventTypeProblems(pool)).toEqual([]);
  await withClient(own.ownerUrl, async (client) => {
    await client.query(
      `update audit.event_types set level = 'info' where type = 'flag_schedule.failed';
       update audit.event_types set description = '' where type = 'audit.gap';
       update audit.event_types set metadata_keys = '{x}' where type = 'audit.purged';
       delete from audit.event_types where type = 'access.denied';
       insert into audit.event_types select 'plan.made', 1, 'info', '', '{}' from audit.event_types limit 1`,
    );
  });
  const [found, ...others] = await eventTypeProblems(pool);
  expect(others).toEqual([]);
  expect(found).toMatchObject({ status: 'event_type_altered' });
  expect(found?.detail).toContain(
    "5 aren't as this version has them: flag_schedule.failed (level info and not error), access.denied (missing), audit.purged (metadata_keys), audit.gap (description), plan.made (added)",
  );
});

test('a function whose body was replaced is named', async () => {
  const own = await useFreshDatabase();
  const pool = makePool(own.rootUrl, { name: 'halyard test', log: makeTestLog().log });
  onTestFinished(() => pool.end());
  expect(await functionProblems(pool)).toEqual([]);
  await withClient(own.ownerUrl, async (client) => {
    // The triggers are in place, and nothing is refused any more; and no change makes an event.
    await client.query(
      `create or replace function app_private.tg__reject_write() returns trigger language plpgsql volatile
       set search_path to pg_catalog, pg_temp as $$ begin return null; end; $$;
       create or replace function app_private.flag_state(flag app_public.feature_flags) returns jsonb language sql stable
       return jsonb_build_object('enabled', (flag).enabled)`,
    );
    expect(await problems(client)).toEqual([]);
  });
  const [found, ...others] = await functionProblems(pool);
  expect(others).toEqual([]);
  expect(found).toMatchObject({ status: 'function_altered' });
  expect(found?.detail).toContain(
    "2 aren't as this version makes them: app_private.flag_state(app_public.feature_flags), app_private.tg__reject_write()",
  );
});
