import { expect, test } from 'vitest';
import { value } from '../../support/actors.ts';
import { withClient, withRollback } from '../../support/database.ts';
import type { TestDatabase } from '../../support/database.ts';
import { accept, ask } from '../../support/restored.ts';
import { deliverAll, retain, writeOldMonths } from '../../support/old_trail.ts';
import { findings, sealAll } from '../../support/sealed_trail.ts';
import { insertDue, startTestWorker, useFreshDatabase } from '../../support/worker.ts';

const DUE = 'select overdue_for is not null from app_private.next_due()';
const statuses = `select array_agg(status::text order by created_at) from app_public.feature_flag_schedules`;

/** As a worker finds it: a destination with a seal that was made at this time from now. */
function findAhead(database: TestDatabase, sealedIn: string): Promise<string> {
  return ask(
    database,
    `select obstacle from app_private.delivery_state('cloudwatch:x', jsonb_build_object(
       'trail', (select max(trail::text) from audit.incarnations), 'seals', jsonb_build_array(jsonb_build_object(
         'incarnation', gen_random_uuid(), 'seal', 9, 'lastSeq', 99, 'head', repeat('ab', 32),
         'sealedAt', now() + $1::interval))))`,
    [sealedIn],
  );
}

/** One schedule of a flag of its own. */
const schedule = (database: TestDatabase, dueIn: string) =>
  withClient(database.ownerUrl, (client) => insertDue(client, { count: 1, dueIn }));

test('under the clock of a lost primary that was ahead, schedules that are made later are applied, and earlier ones wait', async () => {
  const database = await useFreshDatabase();
  await schedule(database, '-1 minute');
  await schedule(database, '30 minutes');
  expect(await findAhead(database, '1 hour')).toBe('ahead');
  await schedule(database, '0');
  expect(await ask(database, DUE)).toBe(true);
  await startTestWorker(database);
  await expect
    .poll(() => ask(database, statuses), { timeout: 10_000 })
    .toEqual(['pending', 'pending', 'applied']);
  expect(await ask(database, DUE)).toBe(false);
  expect(await accept(database, 'skip')).toMatchObject({ skipped: 2, held: 2 });
});

test('schedules of the lost primary stay held though it stamped them with a time ahead', async () => {
  const database = await useFreshDatabase();
  await schedule(database, '-1 minute');
  await ask(
    database,
    `with off as (select set_config('session_replication_role', 'replica', false))
     update app_public.feature_flag_schedules set created_at = now() + interval '30 minutes' from off returning 1`,
  );
  await findAhead(database, '1 hour');
  expect(await ask(database, DUE)).toBe(false);
});

test('held schedules stay held when the incarnations can’t be read', async () => {
  const database = await useFreshDatabase();
  await schedule(database, '-1 minute');
  await findAhead(database, '0');
  await withRollback(database, async (client) => {
    expect(await value(client, DUE)).toBe(false);
    await client.query('alter table audit.incarnations rename to incarnations_old');
    expect(await value(client, DUE)).toBe(false);
    expect(await value(client, 'select applied from app_private.apply_due()')).toBe(0);
    // Without the record of it nothing is known to be held.
    await client.query('alter table audit.divergences rename to divergences_old');
    expect(await value(client, DUE)).toBe(true);
  });
});

test('a held schedule isn’t tried again either; one that a person retries is due from then on', async () => {
  const database = await useFreshDatabase();
  await schedule(database, '-1 minute');
  await schedule(database, '-1 minute');
  const [first, second] = await ask<string[]>(
    database,
    'select array_agg(id) from app_public.feature_flag_schedules',
  );
  const set = (id: string | undefined, values: string) =>
    ask(
      database,
      `with off as (select set_config('session_replication_role', 'replica', false))
       update app_public.feature_flag_schedules set ${values} from off where id = $1 returning 1`,
      [id],
    );
  await set(first, `attempts = 1, next_attempt_at = now() - interval '1 second'`);
  await set(second, `attempts = 3, status = 'failed', error_message = 'tried'`);
  await findAhead(database, '0');
  expect(await ask(database, DUE)).toBe(false);
  // As retry_flag_schedule() does.
  await set(second, `attempts = 0, status = 'pending', error_message = null, scheduled_at = now()`);
  await startTestWorker(database);
  const statusOf = 'select status from app_public.feature_flag_schedules where id = $1';
  await expect.poll(() => ask(database, statusOf, [second]), { timeout: 10_000 }).toBe('applied');
  expect(await ask(database, statusOf, [first])).toBe('pending');
});

test('in strict mode with broken incarnations nothing is applied, and no attempt used up; mended, what isn’t held is applied', async () => {
  const database = await useFreshDatabase();
  await schedule(database, '-1 minute');
  await findAhead(database, '0');
  await schedule(database, '0');
  await withClient(database.ownerUrl, async (client) => {
    await client.query(`select app_private.set_setting('audit_mode', 'strict')`);
    await client.query('alter table audit.incarnations rename to incarnations_old');
  });
  const { lines } = await startTestWorker(database);
  await expect
    .poll(() => lines.some(({ msg }) => String(msg).startsWith("schedules can't be applied")), {
      timeout: 10_000,
    })
    .toBe(true);
  await expect(accept(database, 'skip')).rejects.toThrow('incarnations');
  expect(
    await ask(database, 'select max(attempts)::int from app_public.feature_flag_schedules'),
  ).toBe(0);
  await withClient(database.ownerUrl, (client) =>
    client.query('alter table audit.incarnations_old rename to incarnations'),
  );
  await expect
    .poll(() => ask(database, statuses), { timeout: 20_000 })
    .toEqual(['pending', 'applied']);
});

test('months are purged while a destination is ahead, and after the loss is accepted, and the rest verifies', async () => {
  const database = await useFreshDatabase();
  await withClient(database.ownerUrl, async (client) => {
    const months = await writeOldMonths(client, 3);
    await sealAll(client, 3);
    await deliverAll(client, 'stdout');
    await schedule(database, '1 hour');
    await findAhead(database, '0');
    expect(await retain(client, '11 months')).toMatchObject([
      { month: months[0], outcome: 'purged' },
    ]);
    expect(await accept(database, 'skip')).toMatchObject({ queued: 3 });
    expect(await retain(client, '10 months')).toMatchObject([
      { month: months[1], outcome: 'purged' },
    ]);
    await sealAll(client);
    expect((await findings(client)).map(({ status }) => status)).toEqual(['purged', 'purged']);
    expect(
      await value(
        client,
        `select count(*)::int from audit.events where event_type = 'audit.purged'`,
      ),
    ).toBe(2);
  });
});
