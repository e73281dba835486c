--! Message: 

--!include platform/locks.sql

-- The migration in the making. See migrations/README.md.
