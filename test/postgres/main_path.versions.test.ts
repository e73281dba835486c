import { createRequire } from 'node:module';
import { readFile } from 'node:fs/promises';
import { describe, expect, onTestFinished, test } from 'vitest';
import { functionProblems } from '../../src/audit/verification/functions.ts';
import { binaryPackage } from '../../src/postgres/embedded/binaries.ts';
import { makePool } from '../../src/postgres/pool.ts';
import { setUp, withDatabase } from '../../src/postgres/setup.ts';
import { value } from '../support/actors.ts';
import { startTestApi, type TestApi } from '../support/api.ts';
import { withClient, type TestDatabase } from '../support/database.ts';
import { makeTestLog } from '../support/log.ts';
import { loginsTo, loginUrl, makeMigrated, type Logins } from '../support/migrated.ts';
import { startOwnServer } from '../support/postgres_server.ts';
import { schemaDump } from '../support/schema_dump.ts';
import { adminToken } from '../support/tokens.ts';
import { parseShipped, startTestWorker } from '../support/worker.ts';

/** The registry package of each version that Halyard supports besides the one that it brings. */
const VERSIONS = [15, 16, 17].map((major) => ({ major, release: `postgres-${major}` }));

/** Why a version can't be tested here; null when it can. */
function obstacle(release: string): string | null {
  const here = createRequire(import.meta.url);
  try {
    createRequire(here.resolve(release)).resolve(binaryPackage(process.platform, process.arch));
    return null;
  } catch {
    return `${release} isn't installed for ${process.platform} on ${process.arch}`;
  }
}

/** A server of that version with a migrated database; it is stopped after the test. */
async function openDatabase(release: string): Promise<TestDatabase> {
  const server = await startOwnServer({ release });
  onTestFinished(() => server.stop());
  const name = 'halyard';
  const logins = loginsTo(server.rootUrl, 'versions', name);
  await makeMigrated(server.rootUrl, logins);
  await setUpAgain(server.rootUrl, logins);
  return {
    ...{ name, ...logins, rootUrl: withDatabase(server.rootUrl, name) },
    drop: () => Promise.resolve(),
  };
}

/** By an administrator without rights to what is there, who has nothing to change. */
async function setUpAgain(serverUrl: string, logins: Logins): Promise<void> {
  await withClient(serverUrl, (client) =>
    client.query(`create role second login createrole createdb password 'second'`),
  );
  const rootUrl = loginUrl(serverUrl, 'second', 'second', 'postgres');
  await setUp({ rootUrl, ...logins, log: makeTestLog().log });
}

/** Makes a flag, has a schedule of it applied and another one cancelled, as an admin does. */
async function useFlag(api: TestApi): Promise<void> {
  const token = adminToken();
  const ask = async (target: string, status: number, json?: unknown) => {
    const answer = await api.call(target, { token, json });
    expect({ target, status: answer.status, text: answer.text }).toMatchObject({ target, status });
    return answer.body;
  };
  const schedule = async (inMs: number) =>
    ask('POST /api/admin/flags/search/schedule', 201, {
      scheduled_at: new Date(Date.now() + inMs).toISOString(),
      updates: { enabled: true },
    });
  await ask('POST /api/admin/flags', 201, { flag_key: 'search' });
  const { id } = await schedule(3_600_000);
  await ask(`DELETE /api/admin/flags/search/schedule/${id}`, 200);
  await schedule(1_000);
}

/** Rows of each read of states: of now, of tomorrow, and of a span round now. */
const STATES = `
  select array[
    (select count(*) from app_public.flag_state_at('production', clock_timestamp()) s where s.enabled and s.certain),
    (select count(*) from app_public.flag_state_at('production', now() + interval '1 day') s where s.enabled),
    (select count(*) from app_public.upcoming_changes('production', now(), now() + interval '1 day')),
    (select count(*) from app_public.flag_changes('production', now() - interval '1 hour', clock_timestamp(), 'search')),
    (select count(*) from app_public.schedules_between('production', now() - interval '1 hour', now() + interval '1 day')),
    (select sum(d.changes) from app_public.changes_per_day('production', now() - interval '1 hour', clock_timestamp(), 'Europe/Zurich') d)
  ]::integer[] as counts`;

/** The queries of views, which PostgreSQL 15 prints with the table before each column. */
function withoutViews(dump: string): string {
  return dump.replaceAll(/^create view [^;]*;/gm, '');
}

describe.each(VERSIONS)('PostgreSQL $major', ({ major, release }) => {
  const reason = obstacle(release);

  test.skipIf(reason !== null)(
    `migrates, applies, numbers, seals, delivers and verifies${reason === null ? '' : `: skipped, ${reason}`}`,
    async () => {
      const database = await openDatabase(release);
      const api = await startTestApi(database.authenticatorUrl);
      onTestFinished(() => api.close());
      const { sink } = await startTestWorker(database);
      await useFlag(api);

      const shipped = () => sink.taken.map(({ message }) => parseShipped(message));
      const types = () => shipped().map(({ eventType }) => eventType);
      await expect.poll(types, { timeout: 20_000 }).toContain('flag_schedule.applied');
      await expect.poll(() => types().at(-1), { timeout: 20_000 }).toBe('audit.sealed');
      const events = shipped().filter(({ eventType }) => eventType !== 'audit.sealed');
      expect(events.map(({ eventType }) => eventType).toSorted()).toEqual([
        ...['feature_flag.created', 'feature_flag.updated', 'flag_schedule.applied'],
        ...['flag_schedule.cancelled', 'flag_schedule.created', 'flag_schedule.created'],
      ]);
      expect(events.map(({ seq }) => seq)).toEqual([1, 2, 3, 4, 5, 6]);

      await withClient(database.rootUrl, async (client) => {
        expect(await value(client, `select current_setting('server_version')`)).toMatch(
          new RegExp(`^${major}\\.`),
        );
        const statuses = 'select array_agg(distinct v.status) from audit.verify() as v';
        expect(await value(client, statuses)).toEqual(['ok']);
        expect(await value(client, 'select count(*)::int from audit.dead_letters')).toBe(0);
        expect(await client.query(STATES)).toMatchObject({
          rows: [{ counts: [1, 1, 0, 2, 2, 2] }],
        });
      });
      const pool = makePool(database.rootUrl, { name: 'halyard test', log: makeTestLog().log });
      onTestFinished(() => pool.end());
      expect(await functionProblems(pool)).toEqual([]);
      const dump = await withClient(database.ownerUrl, async (client) => {
        await client.query('begin');
        return schemaDump(client);
      });
      const written = await readFile(new URL('../../schema/halyard.sql', import.meta.url), 'utf8');
      const whole = written.slice(written.indexOf('create schema '));
      expect(withoutViews(dump)).toBe(withoutViews(whole));
      if (major > 15) expect(dump).toBe(whole);
    },
  );
});
