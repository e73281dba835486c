-- The roles that Halyard works with. Run once per server by an administrator (`npm run halyard -- setup`), before the
-- first migration, and again at will: every statement is idempotent. Roles belong to the server and not to a database,
-- which is why they are never in a migration. Passwords, the roles' settings (role_settings.sql) and the database itself are set by
-- src/postgres/setup.ts.

do $$
declare
  v_role record;
begin
  for v_role in
    select *
    from (values
      ('halyard_owner', 'login inherit', 'Halyard: owns the schemas and runs the migrations.'),
      ('halyard_authenticator', 'login noinherit', 'Halyard: the API''s login; may become admin, viewer or auditor and nothing else.'),
      ('halyard_worker', 'login noinherit', 'Halyard: the worker''s login; runs graphile-worker and the functions that apply and forward.'),
      ('halyard_admin', 'nologin', 'Halyard: a request of an administrator of flags.'),
      ('halyard_viewer', 'nologin', 'Halyard: a request that may only read flags and schedules.'),
      ('halyard_auditor', 'nologin', 'Halyard: reads the audit trail. Grant it to the logins of DBAs and auditors.')
    ) as role (name, options, description)
  loop
    if not exists (select from pg_catalog.pg_roles where rolname = v_role.name) then
      execute format('create role %I', v_role.name);
    end if;
    execute format('alter role %I with %s', v_role.name, v_role.options);
    if exists (
      select from pg_catalog.pg_roles
      where rolname = v_role.name and (rolsuper or rolbypassrls or rolcreaterole or rolreplication)
    ) then
      raise exception 'Role % has rights that Halyard''s guarantees don''t hold against; take superuser, bypassrls, createrole and replication from it.', v_role.name;
    end if;
    execute format('comment on role %I is %L', v_role.name, v_role.description);
  end loop;
end;
$$;

-- The authenticator becomes one of these for the length of a transaction; NOINHERIT: by itself it can read nothing.
grant halyard_admin, halyard_viewer, halyard_auditor to halyard_authenticator;

-- graphile-worker's tables have row-level security without policies, so only their owner works with them: the worker's
-- login has to own them, and migrations, which run as halyard_owner, give them to it once they are made.
grant halyard_worker to halyard_owner;
