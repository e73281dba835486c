-- Gives graphile-worker's schema, and all that is in it, to the worker's login, once `migrate` has installed it: only the owner of its
-- tables works with them.
do $$ declare
  v_statement text;
begin
  alter schema graphile_worker owner to halyard_worker;
  for v_statement in
    select format('alter table %s owner to halyard_worker', c.oid::regclass)
    from pg_class c
    where c.relnamespace = 'graphile_worker'::regnamespace and c.relkind in ('r', 'p', 'v', 'm')
    union all
    select format('alter sequence %s owner to halyard_worker', c.oid::regclass)
    from pg_class c
    where c.relnamespace = 'graphile_worker'::regnamespace and c.relkind = 'S'
      and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype in ('a', 'i'))
    union all
    select format('alter routine %s owner to halyard_worker', p.oid::regprocedure)
    from pg_proc p
    where p.pronamespace = 'graphile_worker'::regnamespace
    union all
    select format('alter type %s owner to halyard_worker', t.oid::regtype)
    from pg_type t
    left join pg_class c on c.oid = t.typrelid
    where t.typnamespace = 'graphile_worker'::regnamespace and (t.typtype in ('d', 'e') or c.relkind = 'c')
  loop
    execute v_statement;
  end loop;
  comment on schema graphile_worker is null;
end $$;
