import { readFile } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import { useDatabase, withRollback } from '../support/database.ts';
import { OURS, names } from '../support/catalog.ts';

const database = useDatabase();

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
