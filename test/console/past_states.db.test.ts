import type pg from 'pg';
import { describe, expect, test } from 'vitest';
import { value, withActors } from '../support/actors.ts';
import { useDatabase } from '../support/database.ts';
import { insertFlag, insertSchedule } from '../support/factory.ts';
import { retain } from '../support/old_trail.ts';
import { writeTrail } from '../support/retention.ts';
import { sqlStateOf } from '../support/roles.ts';

const database = useDatabase();

interface State {
  readonly enabled: boolean;
  readonly rollout_percentage: number;
  readonly certain: boolean;
  readonly sources: Readonly<Record<string, Record<string, string>>>;
}

/** What is said of one flag; undefined when it isn't there. */
async function stateOf(
  client: pg.ClientBase,
  key: string,
  at = 'clock_timestamp()',
): Promise<State | undefined> {
  const { rows } = await client.query<State>(
    `select s.enabled, s.rollout_percentage, s.certain, s.sources
     from app_public.flag_state_at('production', ${at}) s where s.flag_key = $1`,
    [key],
  );
  return rows[0];
}

const now = (client: pg.ClientBase) => value<string>(client, 'select clock_timestamp()::text');

/** Writes the reconciler's events for flags that lack some; says how many. */
const reconcileFlags = (client: pg.ClientBase) =>
  value<number>(
    client,
    `select events from app_private.reconcile_rows('feature_flags', '00000000-0000-0000-0000-000000000000', '-infinity', 1000)`,
  );

describe('the past', () => {
  test('a flag is in it from its creation until its deletion', async () => {
    await withActors(database, async (client) => {
      const before = await now(client);
      const { id } = await insertFlag(client, { flag_key: 'short-lived', enabled: true });
      const created = await now(client);
      await client.query(`update app_public.feature_flags set description = 'a' where id = $1`, [
        id,
      ]);
      await client.query('delete from app_public.feature_flags where id = $1', [id]);
      const states = [before, created, await now(client)].map((at) => `'${at}'`);
      expect(await stateOf(client, 'short-lived', states[0])).toBeUndefined();
      expect(await stateOf(client, 'short-lived', states[1])).toMatchObject({
        ...{ enabled: true, rollout_percentage: 100, certain: true },
        sources: { event: { id: expect.any(String) as string } },
      });
      expect(await stateOf(client, 'short-lived', states[2])).toBeUndefined();
      const { rows } = await client.query(
        `select enabled, was_enabled, deleted from app_public.flag_changes('production', $1, clock_timestamp())`,
        [before],
      );
      // The description is no state.
      expect(rows).toEqual([
        { enabled: true, was_enabled: null, deleted: false },
        { enabled: false, was_enabled: true, deleted: true },
      ]);
    });
  });

  test('a flag whose first events the trail lacks was what the next one says, or is what its row says', async () => {
    await withActors(database, async (client) => {
      const update = 'update app_public.feature_flags set enabled = true where flag_key = $1';
      await client.query('alter table app_public.feature_flags disable trigger _900_audit_insert');
      const flag = await insertFlag(client, { flag_key: 'old' });
      await insertFlag(client, { flag_key: 'silent', rollout_percentage: 7 });
      const before = `'${await now(client)}'`;
      await client.query(update, [flag.flag_key]);
      expect(await stateOf(client, 'old', before)).toMatchObject({
        ...{ enabled: false, certain: true },
        sources: { event: { is_after: true } },
      });
      expect(await stateOf(client, 'old')).toMatchObject({ enabled: true });
      expect(await stateOf(client, 'silent')).toEqual({
        ...{ enabled: false, rollout_percentage: 7, certain: true, sources: {} },
      });
      expect(await stateOf(client, 'silent', `now() - interval '1 day'`)).toBeUndefined();
    });
  });

  test('a change whose event is missing is in the row; of the time before it nothing is certain', async () => {
    await withActors(database, async (client) => {
      const alter = (what: string) => client.query(`alter table app_public.feature_flags ${what}`);
      const { id } = await insertFlag(client, { flag_key: 'lossy' });
      const created = `'${await now(client)}'`;
      await alter('disable trigger user');
      await client.query(
        `update app_public.feature_flags set enabled = true, revision = 2, updated_at = clock_timestamp() where id = $1`,
        [id],
      );
      const lost = `'${await now(client)}'`;
      expect(await stateOf(client, 'lossy', created)).toMatchObject({
        ...{ enabled: false, certain: false },
        sources: { event: {} },
      });
      expect(await stateOf(client, 'lossy', lost)).toEqual({
        ...{ enabled: true, rollout_percentage: 100, certain: true, sources: {} },
      });

      await alter('enable trigger _100_stamp');
      await alter('enable trigger _900_audit_update');
      const change = 'update app_public.feature_flags set rollout_percentage = 7 where id = $1';
      await client.query(change, [id]);
      for (const at of [created, lost])
        expect(await stateOf(client, 'lossy', at)).toMatchObject({ certain: false });
      const changed = `'${await now(client)}'`;
      const known = { enabled: true, rollout_percentage: 7, certain: true };
      expect(await stateOf(client, 'lossy')).toMatchObject(known);

      expect(await reconcileFlags(client)).toBe(1);
      for (const at of [changed, undefined])
        expect(await stateOf(client, 'lossy', at)).toMatchObject(known);
      // The reconciler's event says what it found, which was known.
      const { rows } = await client.query(
        `select enabled, was_enabled from app_public.flag_changes('production', ${created}, clock_timestamp(), 'lossy')`,
      );
      expect(rows).toEqual([{ enabled: true, was_enabled: true }]);
    });
  });

  test('what the reconciler found is a change of what was there before, and no creation', async () => {
    await withActors(database, async (client) => {
      const { id } = await insertFlag(client, { flag_key: 'found' });
      await client.query('alter table app_public.feature_flags disable trigger _900_audit_update');
      await client.query('update app_public.feature_flags set enabled = true where id = $1', [id]);
      expect(await reconcileFlags(client)).toBe(1);
      const { rows } = await client.query(
        `select enabled, was_enabled, was_rollout_percentage
         from app_public.flag_changes('production', now(), clock_timestamp(), 'found') offset 1`,
      );
      expect(rows).toEqual([{ enabled: true, was_enabled: false, was_rollout_percentage: 100 }]);
    });
  });

  test('a flag that was deleted without an event is there, and not certain, until it was found gone', async () => {
    await withActors(database, async (client) => {
      const { id } = await insertFlag(client, { flag_key: 'vanished', enabled: true });
      await client.query('alter table app_public.feature_flags disable trigger _900_audit_delete');
      await client.query('delete from app_public.feature_flags where id = $1', [id]);
      const gone = `'${await now(client)}'`;
      expect(await stateOf(client, 'vanished')).toBeUndefined();
      await client.query(`select app_private.reconcile_deleted_rows('', 1000)`);
      expect(await stateOf(client, 'vanished', gone)).toMatchObject({
        enabled: true,
        certain: false,
      });
      expect(await stateOf(client, 'vanished')).toBeUndefined();
    });
  });

  test('a time from before the purge is refused with the horizon, and no other', async () => {
    await withActors(database, async (client) => {
      const months = await writeTrail(client);
      await retain(client, '10 months');
      const horizon = `${months[2] ?? ''}T00:00:00Z`;
      const day = (sign: string) => `timestamptz '${horizon}' ${sign} interval '1 day'`;
      const ask = (at: string) => () => stateOf(client, 'any', at);
      expect(await sqlStateOf(client, ask(day('+')))).toBeNull();
      expect(await sqlStateOf(client, ask(day('-')))).toBe('ZF026');
      for (const call of ['flag_changes', 'changes_per_day'])
        expect(
          await sqlStateOf(client, () =>
            client.query(`select app_public.${call}('production', ${day('-')}, ${day('+')})`),
          ),
        ).toBe('ZF026');
      await expect(stateOf(client, 'any', day('-'))).rejects.toThrow(
        `The audit trail was purged up to ${months[2] ?? ''}T00:00:00.000000Z: ask for a time from then on.`,
      );
    });
  });
});

describe('the future', () => {
  const IN_AN_HOUR = `clock_timestamp() + interval '1 hour'`;
  const upcoming = async (client: pg.ClientBase, from = `now() - interval '1 hour'`) => {
    const { rows } = await client.query<{ schedule_id: string; at: Date; enabled: boolean }>(
      `select schedule_id, at, enabled, status from app_public.upcoming_changes('production', ${from}, now() + interval '1 day')`,
    );
    return rows;
  };

  test('what is overdue comes now and isn’t certain; what waits comes with its next attempt', async () => {
    await withActors(database, async (client) => {
      const { id, flag_key } = await insertFlag(client);
      const overdue = await insertSchedule(client, id, { dueIn: '-1 hour' });
      expect(await stateOf(client, flag_key, IN_AN_HOUR)).toMatchObject({
        ...{ enabled: true, certain: false },
        sources: { enabled: { schedule_id: overdue.id } },
      });
      const [next] = await upcoming(client);
      expect(next?.schedule_id).toBe(overdue.id);
      expect((next?.at.getTime() ?? 0) - overdue.scheduled_at.getTime()).toBeGreaterThan(3_599_000);
      expect(await upcoming(client, `clock_timestamp() + interval '1 minute'`)).toEqual([]);

      await client.query(
        `update app_public.feature_flag_schedules set next_attempt_at = now() + interval '2 hours' where id = $1`,
        [overdue.id],
      );
      const later = await insertSchedule(client, id, {
        dueIn: '1 hour',
        updates: { enabled: false },
      });
      // The later time decides, also when the earlier one is applied behind it.
      expect(await upcoming(client)).toMatchObject([
        { schedule_id: later.id, enabled: false },
        { schedule_id: overdue.id, enabled: false },
      ]);
      expect(await stateOf(client, flag_key, IN_AN_HOUR)).toMatchObject({
        ...{ enabled: false, certain: false },
        sources: { enabled: { schedule_id: later.id } },
      });
    });
  });

  test('what is held until a person decides changes nothing', async () => {
    await withActors(database, async (client) => {
      const { id, flag_key } = await insertFlag(client);
      await insertSchedule(client, id, { dueIn: '-1 hour' });
      await client.query(`
        create or replace function app_private.held_schedules(out scheduled_until timestamptz, out created_until timestamptz)
        language sql stable as $$ select timestamptz 'infinity', timestamptz 'infinity' $$`);
      expect(await upcoming(client)).toEqual([]);
      expect(await stateOf(client, flag_key, IN_AN_HOUR)).toMatchObject({
        ...{ enabled: false, certain: false, sources: {} },
      });
    });
  });
});
