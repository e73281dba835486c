--! Message: 

--!include platform/locks.sql

-- Stays as it is: changes go into committed/. See migrations/README.md.
