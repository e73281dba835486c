import { readFile } from 'node:fs/promises';
import type pg from 'pg';
import { describe, expect, test } from 'vitest';
import { value } from '../support/actors.ts';
import { useDatabase, withRollback } from '../support/database.ts';

const database = useDatabase();
const OURS = `('app_public', 'app_private', 'audit')`;

/** What breaks a rule: the names that a query gives. */
function offenders(query: string): Promise<string[]> {
  return withRollback(database, (client) => names(client, query));
}

async function names(client: pg.ClientBase, query: string): Promise<string[]> {
  const { rows } = await client.query<{ name: string }>(query);
  return rows.map(({ name }) => name);
}

function functions(condition: string): string {
  return `select p.oid::regprocedure::text as name
    from pg_proc p join pg_namespace n on n.oid = p.pronamespace
    where n.nspname in ${OURS} and (${condition}) order by 1`;
}

function tables(condition: string): string {
  return `select c.oid::regclass::text as name
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname in ${OURS} and c.relkind in ('r', 'p', 'v', 'm', 'f') and (${condition}) order by 1`;
}

test('there is something to look at', async () => {
  expect((await offenders(functions('true'))).length).toBeGreaterThan(30);
  expect((await offenders(tables('true'))).length).toBeGreaterThan(8);
});

test('what functions read of a transaction’s own settings, a session begins without', async () => {
  const read = await offenders(
    String.raw`select distinct m[1] as name
     from pg_proc p join pg_namespace n on n.oid = p.pronamespace,
       regexp_matches(pg_get_functiondef(p.oid), $re$setting\('((?:halyard|jwt)[.][a-z_.]+)'$re$, 'g') m
     where n.nspname in ${OURS} order by 1`,
  );
  const list = await readFile(
    new URL('../../migrations/role_settings.sql', import.meta.url),
    'utf8',
  );
  const listed = [...list.matchAll(/\('((?:halyard|jwt)\.[a-z_.]+)', ''/g)].map(([, name]) => name);
  // This one only makes a session stricter.
  expect([...listed, 'halyard.audit_mode'].toSorted()).toEqual(read);
});

/** Records that destinations get beside the events. */
const RECORD_TYPES = `('audit.sealed', 'audit.missing')`;

/** What functions name as 'kind.what_happened': types of events, as it is no table, no setting and no record. */
const NAMED_EVENT_TYPES = `
  select distinct m[1] as name
  from pg_proc p, regexp_matches(pg_get_functiondef(p.oid), $re$'([a-z_]+[.][a-z_]+)'$re$, 'g') m
  where p.pronamespace::regnamespace::text in ${OURS} and m[1] !~ '^(halyard|jwt)[.]' and to_regclass(m[1]) is null
    and m[1] not in ${RECORD_TYPES}`;

const PINNED = `'search_path=pg_catalog, pg_temp'`;

const RULES: Record<string, string> = {
  'every function pins its search_path, or has a body that was bound when it was made': functions(
    `not coalesce(${PINNED} = any (p.proconfig), false) and p.prosqlbody is null`,
  ),
  // With standard_conforming_strings = off, as a DBA's session may have it, a literal with a backslash is another one.
  'no body of a function has a backslash': functions(`strpos(p.prosrc, chr(92)) > 0`),
  'nobody executes a function by being PUBLIC': functions(
    `exists (select from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a where a.grantee = 0)`,
  ),
  'the owner owns every function': functions(`pg_get_userbyid(p.proowner) <> 'halyard_owner'`),
  'no function is marked leakproof': functions('p.proleakproof'),
  'every function has a comment': functions(`obj_description(p.oid, 'pg_proc') is null`),
  'a trigger function is private and named tg_': functions(
    `p.prorettype = 'trigger'::regtype and (n.nspname <> 'app_private' or p.proname !~ '^tg_[a-z_]*_[a-z_]+$')`,
  ),
  'every name of a function is snake_case': functions(`p.proname !~ '^[a-z][a-z0-9_]*$'`),
  'no function of app_public is a security definer without asking who calls': functions(
    `n.nspname = 'app_public' and p.prosecdef and p.prosrc !~ 'app_private\\.(lock_schedule|require_admin)\\('`,
  ),

  'row-level security is on for every table': tables(`c.relkind <> 'v' and not c.relrowsecurity`),
  'every view of the trail keeps the row-level security of whoever reads it': tables(
    `c.relkind = 'v' and n.nspname = 'audit' and not coalesce(c.reloptions @> array['security_invoker=true'], false)`,
  ),
  'the owner owns every table': tables(`pg_get_userbyid(c.relowner) <> 'halyard_owner'`),
  'every table has a comment': tables(`obj_description(c.oid, 'pg_class') is null`),
  'names of tables are snake_case plurals': tables(
    `not c.relispartition and c.relname !~ '^[a-z][a-z0-9_]*s$' and c.oid not in ('audit.queue'::regclass, 'audit.ledger'::regclass)`,
  ),
  'every table has a primary key': tables(
    `c.relkind <> 'v' and not exists (select from pg_constraint k where k.conrelid = c.oid and k.contype = 'p')`,
  ),
  'every policy names its roles': `
    select p.polname || ' on ' || p.polrelid::regclass as name from pg_policy p where 0 = any (p.polroles)`,
  'every policy reads the claims once a statement': `
    select p.polname || ' on ' || p.polrelid::regclass as name
    from pg_policy p
    cross join lateral (
      values (pg_get_expr(p.polqual, p.polrelid)), (pg_get_expr(p.polwithcheck, p.polrelid))
    ) as e (text)
    where e.text ~ 'claims?_'
      and regexp_replace(e.text, 'SELECT (true\\s+WHERE [(]*(NOT )?)?app_private\\.claims?_', '', 'g') ~ 'claims?_[a-z_]+\\('`,

  'every column has a comment': `
    select format('%s.%s', c.oid::regclass, a.attname) as name
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    where n.nspname in ${OURS} and c.relkind in ('r', 'p', 'v', 'm') and not c.relispartition
      and col_description(c.oid, a.attnum) is null`,
  'every type of the API and each of its fields has a comment': `
    select format('%s.%s', c.oid::regclass, a.attname) as name
    from pg_class c
    join pg_attribute a on a.attrelid = c.oid and a.attnum > 0
    where c.relkind = 'c' and c.relnamespace = 'app_public'::regnamespace
      and (col_description(c.oid, a.attnum) is null or obj_description(c.reltype, 'pg_type') is null)`,
  'every schema has a comment': `
    select nspname::text as name from pg_namespace
    where nspname in ${OURS} and obj_description(oid, 'pg_namespace') is null`,
  'no type is an enum': `
    select oid::regtype::text as name from pg_type where typtype = 'e' and typnamespace::regnamespace::text in ${OURS}`,

  'every event type that a function names is in the catalogue': `
    ${NAMED_EVENT_TYPES} and m[1] not in (select t.type from audit.event_types t)`,
  'every event type of the catalogue is named by a function': `
    select t.type as name from audit.event_types t where t.type not in (${NAMED_EVENT_TYPES})`,

  'every foreign key says what happens on delete': `
    select conname::text as name from pg_constraint
    where contype = 'f' and connamespace::regnamespace::text in ${OURS} and confdeltype not in ('c', 'r', 'n', 'd')`,
  'every foreign key has an index that begins with its columns': `
    select k.conname::text as name from pg_constraint k
    where k.contype = 'f' and k.connamespace::regnamespace::text in ${OURS}
      and not exists (
        select from pg_index i
        where i.indrelid = k.conrelid and i.indpred is null
          and (string_to_array(i.indkey::text, ' ')::int2[])[1:cardinality(k.conkey)] = k.conkey)`,
  'the trail has no foreign key': `
    select conname::text as name from pg_constraint where contype = 'f' and connamespace = 'audit'::regnamespace`,
  'no constraint is deferrable: it would fail at COMMIT, past every exception block': `
    select conname::text as name from pg_constraint where condeferrable and connamespace::regnamespace::text in ${OURS}`,
  'every constraint is validated': `
    select conname::text as name from pg_constraint where not convalidated and connamespace::regnamespace::text in ${OURS}`,

  'triggers are named by their order': `
    select format('%s on %s', t.tgname, t.tgrelid::regclass) as name
    from pg_trigger t join pg_class c on c.oid = t.tgrelid
    where not t.tgisinternal and c.relnamespace::regnamespace::text in ${OURS} and t.tgname !~ '^_[0-9]{3}_[a-z_]+$'`,
  'triggers that audit or refuse fire always': `
    select format('%s on %s', t.tgname, t.tgrelid::regclass) as name
    from pg_trigger t join pg_proc p on p.oid = t.tgfoid
    where not t.tgisinternal and t.tgenabled <> 'A' and (p.proname ~ '__audit$' or p.proname = 'tg__reject_write')`,
  'every table of app_public audits insert, update and delete, once a statement': `
    select format('%s %s', c.oid::regclass, e.event) as name
    from pg_class c
    cross join (values ('insert', 4), ('update', 16), ('delete', 8)) as e (event, bit)
    where c.relnamespace = 'app_public'::regnamespace and c.relkind = 'r'
      and not exists (
        select from pg_trigger t join pg_proc p on p.oid = t.tgfoid
        where t.tgrelid = c.oid and p.proname ~ '__audit$' and (t.tgtype & e.bit) > 0 and (t.tgtype & 1) = 0)`,
  'every partition of the trail refuses update, delete and truncate by itself': `
    select c.oid::regclass::text as name
    from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent = 'audit.events'::regclass
      and not exists (
        select from pg_trigger t
        where t.tgrelid = c.oid and t.tgfoid = 'app_private.tg__reject_write'::regproc
          and (t.tgtype & (8 + 16 + 32)) = 8 + 16 + 32 and (t.tgtype & 1) = 0)`,
};

test.for(Object.entries(RULES))('%s', async ([, query]) => {
  expect(await offenders(query)).toEqual([]);
});

test('a table and a function that keep none of it are found', async () => {
  const found = await withRollback(database, async (client) => {
    await client.query(
      'create table app_public.thing (flag_id uuid references app_public.feature_flags)',
    );
    await client.query(
      'create trigger audit before insert on app_public.thing execute function app_private.tg__reject_write()',
    );
    await client.query(
      `create function app_public.open() returns int language sql security definer as 'select 1'`,
    );
    await client.query('grant execute on function app_public.open() to public');
    await client.query('create view audit.open_events as select id from audit.events');
    await client.query(
      `create function app_private.write() returns text language sql as $$ select 'plan.created' $$`,
    );
    await client.query(
      `insert into audit.event_types select 'plan.made', 1, 'info', '', '{}' from audit.event_types limit 1`,
    );
    const broken: string[] = [];
    for (const [rule, query] of Object.entries(RULES))
      if ((await names(client, query)).length > 0) broken.push(rule);
    return broken;
  });
  expect(found).toEqual(
    expect.arrayContaining([
      'every function pins its search_path, or has a body that was bound when it was made',
      'nobody executes a function by being PUBLIC',
      'every function has a comment',
      'no function of app_public is a security definer without asking who calls',
      'row-level security is on for every table',
      'every table has a comment',
      'names of tables are snake_case plurals',
      'every table has a primary key',
      'every view of the trail keeps the row-level security of whoever reads it',
      'every column has a comment',
      'every event type that a function names is in the catalogue',
      'every event type of the catalogue is named by a function',
      'every foreign key says what happens on delete',
      'every foreign key has an index that begins with its columns',
      'triggers are named by their order',
      'triggers that audit or refuse fire always',
      'every table of app_public audits insert, update and delete, once a statement',
    ]),
  );
});

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

/** Our tables and views that a session holds in ACCESS EXCLUSIVE MODE, or doesn't; without graphile-worker's. */
const LOCKED = (locked: boolean) => `
  select c.oid::regclass::text as name
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where n.nspname in ${OURS} and c.relkind in ('r', 'p', 'v', 'm', 'f')
    and exists (
      select from pg_locks l
      where l.pid = pg_backend_pid() and l.relation = c.oid and l.mode = 'AccessExclusiveLock'
        and l.database = (select d.oid from pg_database d where d.datname = current_database())
    ) = ${locked}
  order by 1`;

describe('platform/locks.sql, with which every migration begins', () => {
  const locks = () =>
    readFile(new URL('../../migrations/fixtures/platform/locks.sql', import.meta.url), 'utf8');

  test('takes every table and view, partitions too', async () => {
    const { missing, taken } = await withRollback(database, async (client) => {
      await client.query(await locks());
      return {
        missing: await names(client, LOCKED(false)),
        taken: await names(client, LOCKED(true)),
      };
    });
    expect(missing, 'Write these into migrations/fixtures/platform/locks.sql.').toEqual([]);
    expect(taken.filter((name) => name.startsWith('audit.events_')).length).toBeGreaterThan(3);
  });

  test('leaves out what isn’t there', async () => {
    const taken = await withRollback(database, async (client) => {
      await client.query('drop schema app_public, app_private, audit cascade');
      await client.query(await locks());
      return names(client, LOCKED(true));
    });
    expect(taken).toEqual([]);
  });
});
