--! Message: 
-- The migration in the making. See migrations/README.md.

-- A flag's events in the order in which they are read, whether its environment is given or not. A key is in a few environments,
-- so what is walked past is little.
create index if not exists events_flag_key_idx on audit.events (flag_key, occurred_at desc, id desc);
drop index if exists audit.events_flag_idx;

-- What went wrong is rare: without this, a search for it in a trail where nothing did walks over all events.
create index if not exists events_level_idx on audit.events (occurred_at desc, id desc) where level <> 'info';

--!include readers.sql
