import type pg from 'pg';
import { describe, expect, test } from 'vitest';
import { value } from '../support/actors.ts';
import { useDatabase, withRollback } from '../support/database.ts';
import { names } from '../support/catalog.ts';

const database = useDatabase();

/**
 * What could change without an event: columns of audited tables that an application role may update, and keys of `updates`, that
 * are in no state function. Stamps, audit triggers and events compare states, so such a change would be invisible.
 */
async function unaudited(client: pg.ClientBase): Promise<string[]> {
  const { rows: tables } = await client.query<{ name: string; state: string | null }>(`
    select distinct c.oid::regclass::text as name, f.oid::regproc::text as state
    from pg_trigger t
    join pg_proc p on p.oid = t.tgfoid and p.proname ~ '__audit$'
    join pg_class c on c.oid = t.tgrelid
    left join pg_proc f
      on f.proargtypes[0] = c.reltype and f.pronargs = 1 and f.prorettype = 'jsonb'::regtype and f.proname ~ '_state$'`);
  const problem = await value<string>(
    client,
    `select app_private.updates_problem('{"no field": 1}')`,
  );
  const updates = problem.replace(/^updates may have only: /, '').split(', ');
  const found: string[] = [];
  for (const { name, state } of tables) {
    const keys =
      state === null
        ? []
        : await names(client, `select jsonb_object_keys(${state}(null::${name})) as name`);
    const columns = await names(
      client,
      `select distinct a.attname::text as name
       from pg_attribute a
       cross join unnest('{halyard_admin,halyard_viewer,halyard_auditor,halyard_authenticator,halyard_worker}'::text[]) as r (role)
       where a.attrelid = '${name}'::regclass and a.attnum > 0 and not a.attisdropped
         and has_column_privilege(r.role, a.attrelid, a.attnum, 'update')`,
    );
    const fields = name === 'app_public.feature_flags' ? [...columns, ...updates] : columns;
    found.push(
      ...new Set(
        fields
          .filter((field) => !keys.includes(camelCase(field)))
          .map((field) => `${name}.${field}`),
      ),
    );
  }
  return found;
}

function camelCase(column: string): string {
  return column.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

describe('what a role may change, or a schedule, is in its table’s state', () => {
  test('as the database is', async () => {
    expect(
      await withRollback(database, unaudited),
      'columns that the function <name>_state() of their table must have',
    ).toEqual([]);
  });

  test('a column that is in no state is found', async () => {
    const found = await withRollback(database, async (client) => {
      await client.query('alter table app_public.feature_flags add column unaudited text');
      await client.query('grant update (unaudited) on app_public.feature_flags to halyard_admin');
      return unaudited(client);
    });
    expect(found).toEqual(['app_public.feature_flags.unaudited']);
  });

  test('a key of updates that is in no state is found', async () => {
    const found = await withRollback(database, async (client) => {
      const definition = await value<string>(
        client,
        `select pg_get_functiondef('app_private.updates_problem(jsonb)'::regprocedure)`,
      );
      await client.query(definition.replace('{enabled,', '{unaudited,enabled,'));
      return unaudited(client);
    });
    expect(found).toEqual(['app_public.feature_flags.unaudited']);
  });

  test('an audited table without a state is found', async () => {
    const found = await withRollback(database, async (client) => {
      await client.query('drop function app_private.flag_state(app_public.feature_flags) cascade');
      return unaudited(client);
    });
    expect(found).toContain('app_public.feature_flags.enabled');
  });
});
