import type pg from 'pg';
import { expect, test } from 'vitest';
import { value, withActors } from '../support/actors.ts';
import { useDatabase, withClient, type TestDatabase } from '../support/database.ts';
import { dryRun } from '../support/dry_run.ts';
import { insertFlag } from '../support/factory.ts';
import { insertPlan } from '../support/plan_points.ts';
import { changeOf, stepsOf } from '../support/plans.ts';
import { become, sqlStateOf } from '../support/roles.ts';

const database = useDatabase();

const rolloutOf = (rollout_percentage: number) => ({ rollout_percentage });

/** What the tables hold, by name: the number of rows and a hash of them. */
async function contents(client: pg.ClientBase): Promise<Record<string, string>> {
  const { rows } = await client.query<{ name: string }>(
    `select format('%I.%I', n.nspname, c.relname) as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where n.nspname in ('app_public', 'app_private', 'audit') and c.relkind = 'r'`,
  );
  const found: Record<string, string> = {};
  for (const { name } of rows)
    found[name] = await value(
      client,
      `select concat(count(*), ' ', md5(string_agg(t::text, ' ' order by t::text))) from ${name} t`,
    );
  return found;
}

/** A dry run of each kind, each in a transaction of its own that is committed. */
async function tryAll(of: TestDatabase, calls: [call: string, values: unknown[]][]): Promise<void> {
  await withClient(of.rootUrl, async (client) => {
    for (const [call, values] of calls) {
      await client.query('begin');
      await become(client, 'admin', { userId: 'alice' });
      const { events } = await dryRun(client, call, values);
      expect(events.length).toBeGreaterThan(0);
      await client.query('commit');
    }
  });
}

test('a dry run writes nothing and notifies no listener, and takes no number', async () => {
  await withClient(database.ownerUrl, async (client) => {
    const flag = await insertFlag(client);
    const applied = await insertPlan(client, '-1 second', [{ flag, updates: rolloutOf(50) }]);
    await client.query('select app_private.apply_point($1)', [applied.id]);
    await client.query(`select app_private.stop_environment('staging', 'fire')`);
    const before = await contents(client);
    const heard: unknown[] = [];
    client.on('notification', ({ payload }) => heard.push(payload));
    await client.query('listen halyard_audit');
    await tryAll(database, [
      ['plan($1, $2)', ['Release', stepsOf(changeOf(flag))]],
      ['revert($1)', [{ plan_id: applied.id }]],
      ['resume($1, $2)', ['staging', 'apply']],
    ]);
    expect(await contents(client)).toEqual(before);
    expect(heard).toEqual([]);
    await client.query('update app_public.feature_flags set enabled = true');
    await expect.poll(() => heard.length).toBe(1);
    await client.query('unlisten *');
    await client.query(`select app_private.resume_environment('staging', 'apply', 'over')`);
  });
});

test('a dry run is refused as the real thing is, and where somebody has a flag locked', async () => {
  const flag = await withClient(database.ownerUrl, (client) => insertFlag(client));
  const steps = stepsOf(changeOf(flag));
  await withActors(database, async (client) => {
    const refused = (call: string, ...values: unknown[]) =>
      sqlStateOf(client, () => dryRun(client, call, values));
    await become(client, 'admin', { userId: 'ann', environments: ['production'] });
    expect(await refused('plan($1, $2)', '', steps)).toBe('ZF028');
    expect(await refused('plan($1, $2, $3)', 'Release', steps, '2020-01-01')).toBe('ZF005');
    expect(await refused('plan($1, $2)', 'Release', '[]')).toBe('ZF028');
    expect(await refused('revert($1)', {})).toBe('22023');
    expect(await refused('revert($1)', { plan_id: flag.id, environment: 'production' })).toBe(
      '22023',
    );
    expect(await refused('revert($1)', { plan_id: flag.id })).toBe('ZF018');
    expect(await refused('resume($1, $2)', 'production', 'apply')).toBe('ZF023');
    expect(await refused('resume($1, $2)', 'staging', 'apply')).toBe('ZF014');
    await become(client, 'admin');
    expect(await refused('plan($1, $2)', 'Release', steps)).toBeNull();
    await withClient(database.ownerUrl, async (holder) => {
      await holder.query('begin');
      await holder.query('select from app_public.feature_flags where id = $1 for update', [
        flag.id,
      ]);
      // The plan's foreign keys would wait for the holder, so the dry run asks first.
      expect(await refused('plan($1, $2)', 'Release', steps)).toBe('55P03');
      await holder.query('rollback');
    });
    for (const role of ['viewer', 'auditor'] as const) {
      await become(client, role);
      expect(await refused('plan($1, $2)', 'Release', steps)).toBe('42501');
    }
  });
});
