import type pg from 'pg';
import { expect, onTestFinished, test } from 'vitest';
import { migrate } from '../../src/postgres/migrate.ts';
import { sleep } from '../../src/lib/wait.ts';
import { value } from '../support/actors.ts';
import { copyMigrations } from '../support/chaos/migrations.ts';
import { withClient, type TestDatabase } from '../support/database.ts';
import { insertFlag } from '../support/factory.ts';
import { makeTestLog } from '../support/log.ts';
import { deliverAll, writeOldMonths } from '../support/old_trail.ts';
import { sealAll } from '../support/sealed_trail.ts';
import {
  countByStatus,
  insertDue,
  parseShipped,
  startTestWorker,
  useFreshDatabase,
} from '../support/worker.ts';

const soon = { timeout: 20_000 };
const DESTINATION = 'stdout';

/** Every advisory lock that Halyard took before it had locks of its own, and graphile-migrate's. */
const KEYS = [
  ...['ensure_audit_partitions', 'reconcile_audit', 'seal_audit_events'],
  ...['sequence_audit_events', 'retain'],
]
  .map((name) => `hashtext('halyard.${name}')`)
  .concat(
    ['reconcile', `forward.${DESTINATION}`, `worker_pool.pool-1`].map(
      (name) => `hashtextextended('halyard.${name}', 0)`,
    ),
    ['4215330871', '4727445306447283'],
  );

/** Keys of one number and of two, as pg_locks shows them: those that others hold or wait for. */
const SEEN = `
  select distinct classid::bigint as high, objid::bigint as low, objsubid as form
  from pg_locks
  where locktype = 'advisory' and pid <> pg_backend_pid() and database = (select oid from pg_database where datname = current_database())`;

const AS_INTEGER = (part: string) =>
  `(case when ${part} > 2147483647 then ${part} - 4294967296 else ${part} end)::integer`;

/** Holds all of Halyard's old keys as a superuser, as which other programs of the server may, and each other that shows up while the test lasts. */
async function squat(database: TestDatabase): Promise<void> {
  const stop = new AbortController();
  const ready = Promise.withResolvers<undefined>();
  const squatting = withClient(database.rootUrl, async (client) => {
    for (const key of KEYS)
      await client.query(
        `select pg_advisory_lock(k), pg_advisory_lock((k >> 32)::integer, ${AS_INTEGER('(k & 4294967295)')})
         from (select (${key})::bigint as k) as key`,
      );
    ready.resolve(undefined);
    while (!stop.signal.aborted) {
      await client.query(
        `select case form when 1 then pg_advisory_lock((high << 32) | low)
                else pg_advisory_lock(${AS_INTEGER('high')}, ${AS_INTEGER('low')}) end
         from (${SEEN}) as seen`,
      );
      await sleep(20, stop.signal);
    }
  });
  squatting.catch(ready.reject);
  onTestFinished(async () => {
    stop.abort();
    await squatting;
  });
  await ready.promise;
}

/** An event that is a dead letter, for the reconciler. */
async function loseEvent(client: pg.ClientBase): Promise<void> {
  await client.query('alter table audit.events rename to events_old');
  await insertFlag(client);
  await client.query('alter table audit.events_old rename to events');
}

test('a session that holds each advisory lock stops nothing', async () => {
  const database = await useFreshDatabase();
  await squat(database);
  await withClient(database.ownerUrl, async (owner) => {
    await loseEvent(owner);
    const { worker, sink } = await startTestWorker(database);
    const types = () => sink.taken.map(({ message }) => parseShipped(message).eventType);
    await insertDue(owner, { count: 3, dueIn: '200 ms' });
    await expect.poll(() => countByStatus(owner), soon).toStrictEqual({ applied: 3 });
    const applied = () => types().filter((type) => type === 'flag_schedule.applied').length;
    await expect.poll(applied, soon).toBe(3);
    const letters = 'select count(*)::int from audit.dead_letters';
    await expect.poll(() => value(owner, letters), soon).toBe(0);
    await withClient(database.workerUrl, async (login) => {
      expect(await value(login, 'select app_private.ensure_audit_partitions(5)')).toBe(2);
    });
    const migrations = await copyMigrations();
    const added = await migrations.add(
      '--!include platform/locks.sql\nselect app_private.ensure_audit_partitions(6);',
    );
    await migrate(database.ownerUrl, makeTestLog().log, { folder: migrations.folder });
    const newest = 'select max(filename) from graphile_migrate.migrations';
    expect(await value(owner, newest)).toBe(added);
    await worker.stop();
    // Given back, so that another worker needn't wait for their end.
    const held = 'select count(*)::int from app_private.leases where expires_at > now()';
    expect(await value(owner, held)).toBe(0);

    await writeOldMonths(owner, 1);
    await sealAll(owner);
    await deliverAll(owner, DESTINATION);
    await owner.query(`select app_private.set_setting('audit_retention', '6 months')`);
    await sealAll(owner);
    await withClient(database.workerUrl, async (login) => {
      const outcome = 'select outcome from app_private.retain_audit_events()';
      expect(await value(login, outcome)).toBe('purged');
    });
    const accepted = `select app_private.accept_restore('a disk was lost', 'apply') ->> 'incarnation'`;
    expect(await value(owner, accepted)).toMatch(/^[0-9a-f-]{36}$/);
  });
});
