import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { useDatabase, withRollback } from '../support/database.ts';
import { OURS, names } from '../support/catalog.ts';

const database = useDatabase();

/** What breaks a rule: the names that a query gives. */
function offenders(query: string): Promise<string[]> {
  return withRollback(database, (client) => names(client, query));
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
    `n.nspname = 'app_public' and p.prosecdef and p.prosrc !~ 'app_private\\.(lock_schedule|lock_plan|require_admin|require_reader)\\('`,
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
        where i.indrelid = k.conrelid
          -- No row without the key refers to anything.
          and (i.indpred is null or pg_get_expr(i.indpred, i.indrelid) = format('(%I IS NOT NULL)', (
            select a.attname from pg_attribute a where a.attrelid = k.conrelid and a.attnum = k.conkey[1])))
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
