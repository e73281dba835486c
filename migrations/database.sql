-- What every login may do in a database unless it is taken away. `setup` runs this in Halyard's database, as an administrator; repeated, it
-- changes nothing.

-- Only the owner of the schema may create anything in it.
do $$ begin
  if exists (
    select
    from pg_namespace n cross join aclexplode(n.nspacl) as a
    where n.nspname = 'public' and a.grantee = 0 and a.privilege_type = 'CREATE'
  ) then
    revoke create on schema public from public;
  end if;
end $$;

-- Functions that nothing of Halyard's calls, and with which any login that may connect could stop the others: large objects and
-- pg_logical_emit_message() fill the disk, the latter as fast as it writes, and advisory locks fill the table that all locks share.
-- To forbid PostgreSQL's functions takes a superuser.
do $$
declare
  v_function regprocedure;
begin
  if not (select rolsuper from pg_roles where rolname = current_user) then
    return;
  end if;
  for v_function in
    select p.oid
    from pg_proc p
    where p.pronamespace = 'pg_catalog'::regnamespace
      and (
        p.proname in (
          'lo_creat', 'lo_create', 'lo_from_bytea', 'lo_import', 'lo_put', 'lowrite', 'lo_truncate', 'lo_truncate64',
          'pg_logical_emit_message')
        or p.proname ~ '^pg_(try_)?advisory_(xact_)?lock(_shared)?$')
      and has_function_privilege('halyard_viewer', p.oid, 'execute')
  loop
    execute format('revoke execute on function %s from public', v_function);
  end loop;
  -- The command line of graphile-migrate takes one when a migration is developed.
  if not has_function_privilege('halyard_owner', 'pg_try_advisory_lock(bigint)', 'execute') then
    grant execute on function pg_try_advisory_lock(bigint) to halyard_owner;
  end if;
end $$;
