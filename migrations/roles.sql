-- The roles that Halyard works with. Run once per server by an administrator (`npm run halyard -- setup`), before the
-- first migration, and again at will: it changes only what differs, so a second administrator needs no right to the rest. Roles belong to the server and not to a database,
-- which is why they are never in a migration. Passwords, the roles' settings (role_settings.sql) and the database itself are set by
-- src/postgres/setup.ts.

do $$
declare
  v_role record;
begin
  for v_role in
    select *
    from (values
      ('halyard_owner', true, true, 'Halyard: owns the schemas and runs the migrations.'),
      ('halyard_authenticator', true, false, 'Halyard: the API''s login; may become admin, viewer or auditor and nothing else.'),
      ('halyard_worker', true, false, 'Halyard: the worker''s login; runs graphile-worker and the functions that apply and forward.'),
      ('halyard_admin', false, true, 'Halyard: a request of an administrator of flags.'),
      ('halyard_viewer', false, true, 'Halyard: a request that may only read flags and schedules.'),
      ('halyard_auditor', false, true, 'Halyard: reads the audit trail. Grant it to the logins of DBAs and auditors.')
    ) as role (name, logs_in, inherits, description)
  loop
    if not exists (select from pg_catalog.pg_roles where rolname = v_role.name) then
      execute format('create role %I', v_role.name);
    end if;
    if exists (
      select from pg_catalog.pg_roles
      where rolname = v_role.name and (rolcanlogin, rolinherit) <> (v_role.logs_in, v_role.inherits)
    ) then
      execute format(
        'alter role %I with %s %s', v_role.name,
        case when v_role.logs_in then 'login' else 'nologin' end,
        case when v_role.inherits then 'inherit' else 'noinherit' end);
    end if;
    if exists (
      select from pg_catalog.pg_roles
      where rolname = v_role.name and (rolsuper or rolbypassrls or rolcreaterole or rolreplication)
    ) then
      raise exception 'Role % has rights that Halyard''s guarantees don''t hold against; take superuser, bypassrls, createrole and replication from it.', v_role.name;
    end if;
    if shobj_description(v_role.name::regrole, 'pg_authid') is distinct from v_role.description then
      execute format('comment on role %I is %L', v_role.name, v_role.description);
    end if;
  end loop;

  -- The authenticator becomes one of three for the length of a transaction; NOINHERIT: by itself it can read nothing.
  -- graphile-worker's tables have row-level security without policies, so only their owner works with them: the worker's
  -- login has to own them, and migrations, which run as halyard_owner, give them to it once they are made.
  for v_role in
    select *
    from (values
      ('halyard_authenticator', 'halyard_admin'),
      ('halyard_authenticator', 'halyard_viewer'),
      ('halyard_authenticator', 'halyard_auditor'),
      ('halyard_owner', 'halyard_worker')
    ) as role (member, name)
    -- Since PostgreSQL 16 a member may be one that can't SET ROLE.
    where not pg_has_role(
      member, name, case when current_setting('server_version_num')::int >= 160000 then 'set' else 'member' end)
  loop
    execute format('grant %I to %I', v_role.name, v_role.member);
  end loop;
end;
$$;

-- Halyard's own logins may use the slots that reserved_connections keeps free (PostgreSQL 16 and later), where the administrator has
-- the privilege to let them. INHERIT, because the API's login inherits nothing else.
do $$
declare
  v_role name;
begin
  if to_regrole('pg_use_reserved_connections') is null
    or not (select rolsuper from pg_roles where rolname = current_user) then
    return;
  end if;
  foreach v_role in array '{halyard_owner,halyard_authenticator,halyard_worker}'::name[] loop
    if not pg_has_role(v_role, 'pg_use_reserved_connections', 'usage') then
      execute format('grant pg_use_reserved_connections to %I with inherit true, set false', v_role);
    end if;
  end loop;
end $$;
