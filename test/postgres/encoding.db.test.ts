import { pino } from 'pino';
import { expect, onTestFinished, test } from 'vitest';
import { migrate } from '../../src/postgres/migrate.ts';
import { useDatabase, withClient } from '../support/database.ts';
import { loginsTo } from '../support/migrated.ts';
import { withDatabase } from '../../src/postgres/setup.ts';

const database = useDatabase();
const NAME = 'halyard_test_ascii';

test('a database that isn’t in UTF-8 is refused, and left as it was', async () => {
  await withClient(database.rootUrl, async (admin) => {
    const drop = `drop database if exists ${NAME} with (force)`;
    onTestFinished(() =>
      withClient(database.rootUrl, async (last) => {
        await last.query(drop);
      }),
    );
    await admin.query(
      `create database ${NAME} owner halyard_owner encoding 'SQL_ASCII' template template0
         locale_provider libc lc_collate 'C' lc_ctype 'C'`,
    );
  });
  const rootUrl = withDatabase(database.rootUrl, NAME);
  const { password } = new URL(database.ownerUrl);
  const { ownerUrl } = loginsTo(rootUrl, decodeURIComponent(password), NAME);
  await expect(migrate(ownerUrl, pino({ level: 'silent' }))).rejects.toThrow(
    /encoding is SQL_ASCII, and Halyard needs UTF8/,
  );
  await withClient(rootUrl, async (admin) => {
    const { rows } = await admin.query(
      `select from pg_namespace where nspname in ('graphile_worker', 'app_public', 'audit')`,
    );
    expect(rows).toEqual([]);
  });
});
