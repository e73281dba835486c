-- What Halyard counts on in a session, under any defaults of server and database: the only list. `halyard setup` makes each
-- a setting of the roles, which wins over settings of the server and of the database; a process compares its sessions with it,
-- and names each that differs with the statement that mends it (src/postgres/session.ts).
--
-- This file is one query that others put into theirs. `value` is written as SHOW prints it, and has no list of quoted names, so that
-- `alter role … set name = 'value'` works. `also` are other values that do as well: setup keeps them. `by_session` says that a process also
-- sets it for its own sessions, so that it works where the role lacks it. The others are for an administrator alone to decide:
-- time-outs, and whether a role may write.
--
-- Looked at and left out, because no statement of Halyard's depends on it: client_encoding (the driver sends it), lc_*,
-- default_transaction_deferrable (only for serializable), xml*, backslash_quote and escape_string_warning (no
-- literal has a backslash: a test), check_function_bodies, default_text_search_config, password_encryption (the server's policy).
-- session_authorization takes a superuser, which no role of Halyard's is. halyard.audit_mode only makes a session stricter.
-- Left to the administrator: where tables lie (default_tablespace, default_table_access_method, default_toast_compression,
-- temp_tablespaces), memory, keepalives, logging, and what makes a plan slower but not wrong (enable_*, *_cost,
-- plan_cache_mode, parallelism, debug_*).
select
  setting.name, setting.value, setting.also, setting.by_session,
  coalesce(setting.roles, '{halyard_owner,halyard_authenticator,halyard_worker}') as roles
from (
  values
    -- Each statement must see what was committed before it: numbering, reconciling and purging look again behind a lock.
    ('default_transaction_isolation', 'read committed', '{}'::text[], null::text[], true),
    -- Off, policies raise an error in place of hiding rows: 403 for every request.
    ('row_security', 'on', '{}', null, true),
    -- Off, a backslash in a literal means something else.
    ('standard_conforming_strings', 'on', '{}', null, true),
    -- The driver reads times, intervals, numbers and bytes in these forms only.
    ('DateStyle', 'ISO, MDY', '{}', null, true),
    ('IntervalStyle', 'postgres', '{}', null, true),
    ('TimeZone', 'UTC', '{}', null, true),
    ('timezone_abbreviations', 'Default', '{}', null, true),
    ('extra_float_digits', '1', '{2,3}', null, true),
    ('bytea_output', 'hex', '{}', null, true),
    -- Every name is written with its schema; this keeps operators and functions of other schemas from taking the place of PostgreSQL's. Not
    -- even of public, behind pg_catalog: one there whose parameters fit better would be taken.
    ('search_path', 'pg_catalog', '{}', null, true),
    ('array_nulls', 'on', '{}', null, true),
    ('transform_null_equals', 'off', '{}', null, true),
    -- Views: the auditor's questions.
    ('restrict_nonsystem_relation_kind', '', '{}', null, true),
    -- On, format('%I') quotes every name, also in what setup makes of this list.
    ('quote_all_identifiers', 'off', '{}', null, true),
    -- On, every error ends the session.
    ('exit_on_error', 'off', '{}', null, true),
    -- A warning says that an event became a dead letter; above it, the process's log would lack that.
    ('client_min_messages', 'notice', '{warning}', null, true),
    -- Under replica, stamps, state machine and foreign keys sleep. Only a superuser, or who was granted it, sets this.
    ('session_replication_role', 'origin', '{}', null, true),
    -- A change that was answered with success is on disk, and on a synchronous standby's. remote_apply is more, and kept.
    ('synchronous_commit', 'on', '{remote_apply}', null, true),
    -- Compiling costs more than the slowest statement takes.
    ('jit', 'off', '{}', null, true),
    -- Rights hang on the login. A role that a session begins in has others.
    ('role', 'none', '{}', null, true),
    -- Who changes something, and by what request, each transaction says. Said beforehand, it is wrong for some.
    ('jwt.claims.user_id', '', '{}', null, true),
    ('jwt.claims.email', '', '{}', null, true),
    ('jwt.claims.role', '', '{}', null, true),
    ('jwt.claims.environments', '', '{}', null, true),
    ('halyard.applying', '', '{}', null, true),
    ('halyard.request_id', '', '{}', null, true),
    ('halyard.client_request_id', '', '{}', null, true),
    ('halyard.reason', '', '{}', null, true),
    ('halyard.expected_revision', '', '{}', null, true),
    ('halyard.recording', '', '{}', null, true),

    -- To hold all changes, an administrator sets it on for these roles in the database, and that must hold: /readyz says so.
    ('default_transaction_read_only', 'off', '{}', null, false),
    -- A request that hangs must not hold its locks for good. 10 s is far above the slowest request and below the client's patience.
    ('statement_timeout', '10s', '{}', '{halyard_authenticator}', false),
    ('statement_timeout', '1min', '{}', '{halyard_worker}', false),
    ('statement_timeout', '0', '{}', '{halyard_owner}', false),
    ('lock_timeout', '4s', '{}', '{halyard_authenticator}', false),
    ('lock_timeout', '10s', '{}', '{halyard_worker}', false),
    ('lock_timeout', '0', '{}', '{halyard_owner}', false),
    ('idle_in_transaction_session_timeout', '15s', '{}', '{halyard_authenticator}', false),
    ('idle_in_transaction_session_timeout', '1min', '{}', '{halyard_worker}', false),
    ('idle_in_transaction_session_timeout', '0', '{}', '{halyard_owner}', false),
    -- PostgreSQL 17 and later. A purge and an export take long.
    ('transaction_timeout', '0', '{}', null, false),
    -- Pools and listeners are idle.
    ('idle_session_timeout', '0', '{}', null, false)
) as setting (name, value, also, roles, by_session)
