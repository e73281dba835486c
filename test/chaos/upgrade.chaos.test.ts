import { randomBytes } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import pg from 'pg';
import { expect, inject, onTestFinished, test } from 'vitest';
import { migrate } from '../../src/postgres/migrate.ts';
import { setUp, withDatabase } from '../../src/postgres/setup.ts';
import { value } from '../support/actors.ts';
import { copyMigrations } from '../support/chaos/migrations.ts';
import { makeRandom, newSeed } from '../support/chaos/random.ts';
import { openSite, type Site } from '../support/chaos/site.ts';
import { withClient, type TestDatabase } from '../support/database.ts';
import { makeTestLog } from '../support/log.ts';
import { loginsTo } from '../support/migrated.ts';
import { requestPlan } from '../support/plan_requests.ts';
import { changeOf } from '../support/plans.ts';
import { ANY, APPLY, CANCEL, FLAG, MOVE, PATCH, SCHEDULE } from '../support/release_0_1_0.ts';
import { become } from '../support/roles.ts';

const random = makeRandom(newSeed());
const { log } = makeTestLog();

/** A database that has the migrations of a release and no others, dropped after the test. */
async function makeReleased(version: string): Promise<TestDatabase> {
  const name = `${inject('template')}_${randomBytes(4).toString('hex')}`;
  const rootUrl = inject('rootUrl');
  const logins = loginsTo(rootUrl, inject('password'), name);
  const drop = () =>
    withClient(rootUrl, async (client) => {
      await client.query(`drop database if exists ${name} with (force)`);
    });
  onTestFinished(drop);
  await setUp({ rootUrl, ...logins, log });
  const { folder } = await copyMigrations(version);
  await migrate(logins.ownerUrl, log, { folder });
  return { name, rootUrl: withDatabase(rootUrl, name), ...logins, drop };
}

/**
 * Whether a call that had waited for the migration inside of a function gave a row that has more columns than the statement was planned for.
 * An API answers it by internal_error, and nothing is changed.
 */
const isOfBefore = (error: unknown) => error instanceof pg.DatabaseError && error.code === '42804';

/** A client of the API of 0.1.0. */
async function runClient(site: Site, name: string, stopping: AbortSignal): Promise<void> {
  const client = new pg.Client({ connectionString: site.database.authenticatorUrl });
  await client.connect();
  let requests = 0;
  async function ask(eventType: string, statement: string, values: unknown[]): Promise<string> {
    const requestId = `upgrade-${name}-${++requests}`;
    await client.query('begin');
    await become(client, 'admin', { userId: name, clientRequestId: requestId });
    const rowId = await value<string>(client, statement, values).catch(async (error: unknown) => {
      await client.query('rollback');
      if (statement !== SCHEDULE || !isOfBefore(error)) throw error;
      return null;
    });
    // It was refused, so nothing is promised: the client asks again.
    if (rowId === null) return ask(eventType, statement, values);
    await client.query('commit');
    site.journal.promised({ requestId, eventType, rowId });
    return rowId;
  }
  try {
    while (!stopping.aborted) {
      const key = `upgrade-${name}-${requests}`;
      await ask('feature_flag.created', FLAG, [key]);
      await ask('flag_schedule.created', SCHEDULE, [key, '3 seconds']);
      await ask('feature_flag.updated', PATCH, [key, `changed ${requests}`]);
      const later = await ask('flag_schedule.created', SCHEDULE, [key, '1 day']);
      await ask('flag_schedule.rescheduled', MOVE, [later]);
      if (random.between(0, 1) === 1) await ask('flag_schedule.cancelled', CANCEL, [later]);
      await pause(random.between(0, 30));
    }
  } finally {
    await client.end();
  }
}

/** The worker of 0.1.0, as far as it applies. */
async function runWorker({ database }: Site, stopping: AbortSignal): Promise<void> {
  await withClient(database.workerUrl, async (client) => {
    while (!stopping.aborted) {
      await client.query(APPLY, [...ANY]);
      await pause(50);
    }
  });
}

/** Plans of flags that 0.1.0 has made, due now. */
async function makePlans(database: TestDatabase): Promise<string[]> {
  return withClient(database.rootUrl, async (client) => {
    const { rows } = await client.query<{ flag_key: string; environment: string }>(
      `select flag_key, environment from app_public.feature_flags where flag_key like 'upgrade-%' order by created_at limit 20`,
    );
    const ids: string[] = [];
    while (rows.length >= 4) {
      const changes = rows.splice(0, 4).map((flag) => changeOf(flag));
      ids.push(await requestPlan(client, changes, { dueIn: null }));
    }
    return ids;
  });
}

/** Each status of the plans with that of their schedules, once. */
const statusesOf = (database: TestDatabase, ids: readonly string[]) =>
  withClient(database.rootUrl, (client) =>
    value<string[]>(
      client,
      `select array_agg(distinct p.status || ': ' || s.status)
       from app_public.plans p join app_public.feature_flag_schedules s on s.plan_id = p.id where p.id = any ($1)`,
      [ids],
    ),
  );

test('a database that 0.1.0 has filled is migrated to the newest version under load, and loses nothing', async () => {
  const site = await openSite(await makeReleased('0.1.0'));
  const stopping = new AbortController();
  const load = Promise.all([
    ...['ann', 'ben', 'cleo'].map((name) => runClient(site, name, stopping.signal)),
    runWorker(site, stopping.signal),
  ]);
  // Looked at when it has stopped.
  load.catch(() => undefined);
  const promised = (more: number) => {
    const before = site.journal.promises.length;
    return expect
      .poll(() => site.journal.promises.length, { timeout: 20_000 })
      .toBeGreaterThan(before + more);
  };

  await promised(100);
  await migrate(site.database.ownerUrl, log);
  // While the newest is that of 0.1.0 itself, and ever after: one more, of the kind that changes everything.
  const migrations = await copyMigrations();
  await migrations.add(`
    --!include platform/locks.sql
    alter table audit.events add column made_up text;
    alter table app_public.feature_flags add column made_up text;
    --!include all.sql`);
  await migrate(site.database.ownerUrl, log, { folder: migrations.folder });
  // The worker of 0.1.0 goes on, and applies what the newer API makes.
  const plans = await makePlans(site.database);
  await promised(50);
  await expect.poll(() => statusesOf(site.database, plans)).toEqual(['completed: applied']);
  stopping.abort();
  await load;

  await Promise.all([site.startWorker(), site.startApi()]);
  await site.check();
});
