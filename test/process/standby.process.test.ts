import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pino } from 'pino';
import { expect, onTestFinished, test } from 'vitest';
import { StandbyError } from '../../src/postgres/error.ts';
import { migrate } from '../../src/postgres/migrate.ts';
import { DatabaseUnavailableError, makePool } from '../../src/postgres/pool.ts';
import { setUp } from '../../src/postgres/setup.ts';
import { transactionAs } from '../../src/postgres/transaction.ts';
import { waitForDatabase } from '../../src/postgres/wait.ts';
import { runAudit } from '../support/chaos/command.ts';
import type { TestDatabase } from '../support/database.ts';
import { makeTestFolder, query, startServerIn } from '../support/embedded.ts';
import { loginsTo, makeMigrated } from '../support/migrated.ts';

const log = pino({ level: 'silent' });
const ADMIN = {
  userId: 'alice',
  email: 'alice@example.com',
  role: 'admin',
  environments: null,
  expiresAt: null,
} as const;

/** A migrated database on a server that is a standby until it is promoted, with no primary to follow. */
async function startStandby(): Promise<TestDatabase> {
  const folder = await makeTestFolder();
  const primary = await startServerIn(folder);
  const logins = ({ superuserUrl }: typeof primary) => loginsTo(superuserUrl, 'standby', 'halyard');
  await makeMigrated(primary.superuserUrl, logins(primary));
  await primary.stop();
  await writeFile(join(primary.dataDir, 'standby.signal'), '');
  const standby = await startServerIn(folder);
  return {
    name: 'halyard',
    rootUrl: standby.superuserUrl,
    ...logins(standby),
    drop: () => Promise.resolve(),
  };
}

test('a standby is no database to work with, until it is promoted', async () => {
  const database = await startStandby();
  const pool = makePool(database.authenticatorUrl, { name: 'standby test', log });
  onTestFinished(() => pool.end());
  const flags = () =>
    transactionAs(pool, ADMIN, { requestId: 'request' }, async (client) => {
      const { rowCount } = await client.query('select from app_public.feature_flags');
      return rowCount;
    });

  await expect(flags()).rejects.toThrow(DatabaseUnavailableError);
  await expect(pool.query('select 1')).rejects.toThrow(/standby/);
  expect(pool.totalCount).toBe(0);
  const waiting = Promise.withResolvers<undefined>();
  const ready = waitForDatabase({
    ...{ url: database.workerUrl, name: 'standby test', nodeEnv: 'test', log },
    signal: new AbortController().signal,
    onWaiting: () => waiting.resolve(undefined),
  });
  await waiting.promise;
  // What only reads may well do so here.
  expect(await runAudit(database, 'verify')).toMatchObject({ status: 0, stderr: '' });
  await expect(migrate(database.ownerUrl, log)).rejects.toThrow(StandbyError);
  await expect(setUp({ ...database, log })).rejects.toThrow(StandbyError);

  await query(database.rootUrl, 'select pg_promote()');
  expect(await flags()).toBe(0);
  await ready;
});
