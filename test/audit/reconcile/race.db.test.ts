import { expect, test, vi } from 'vitest';
import { value } from '../../support/actors.ts';
import { withClient } from '../../support/database.ts';
import { insertFlag, insertSchedule } from '../../support/factory.ts';
import { WAITING } from '../../support/hold_lock.ts';
import { problemsOf, reconcileAs } from '../../support/reconcile.ts';
import { sealAll } from '../../support/sealed_trail.ts';
import { useFreshDatabase } from '../../support/worker.ts';

const WRITERS = 4;
const RECONCILERS = 4;
const ROUNDS = 25;

/** What is broken for a transaction, in turn: nothing, the trail, nothing, the trail and the dead letters. */
const OUTCOMES = ['', 'events', '', 'events dead_letters'];
const BREAK_AT_WILL = `
  create function app_private.tg_test__break() returns trigger language plpgsql as $$
  begin
    if current_setting('halyard_test.broken', true) ~ tg_argv[0] then raise exception 'broken'; end if;
    return new;
  end $$;
  create trigger _300_break before insert on audit.events
    for each row execute function app_private.tg_test__break('events');
  create trigger _300_break before insert on audit.dead_letters
    for each row execute function app_private.tg_test__break('dead_letters')`;

test('many reconcilers beside writers and the sequencer: no event is written twice, and no lost one is left', async () => {
  const database = await useFreshDatabase();
  await withClient(database.ownerUrl, (client) => client.query(BREAK_AT_WILL));
  let writing = WRITERS;
  const write = () =>
    withClient(database.ownerUrl, async (client) => {
      for (let i = 0; i < ROUNDS; i++) {
        await client.query('begin');
        await client.query(`select set_config('halyard_test.broken', $1, true)`, [
          OUTCOMES[i % OUTCOMES.length],
        ]);
        const flag = await insertFlag(client);
        const { id } = await insertSchedule(client, flag.id);
        await client.query(
          `update app_public.feature_flag_schedules set scheduled_at = scheduled_at + interval '1 hour' where id = $1`,
          [id],
        );
        await client.query('commit');
      }
    }).finally(() => writing--);
  const keepReconciling = async () => {
    while (writing > 0) await reconcileAs(database, 'full');
  };
  const keepSealing = () =>
    withClient(database.ownerUrl, async (client) => {
      while (writing > 0) await sealAll(client);
    });
  await Promise.all([
    ...Array.from({ length: WRITERS }, write),
    ...Array.from({ length: RECONCILERS }, keepReconciling),
    keepSealing(),
  ]);
  await reconcileAs(database, 'full');
  await withClient(database.ownerUrl, async (client) => {
    expect(await problemsOf(client)).toEqual([]);
    // A schedule that was created and moved without events has one for both.
    const twice = Math.floor(ROUNDS / OUTCOMES.length);
    expect(await value(client, 'select count(*)::int from audit.ledger')).toBe(
      WRITERS * (ROUNDS * 3 - twice),
    );
  });
});

test('a second reconciler waits for the step of the first, and sees what it has written', async () => {
  const database = await useFreshDatabase();
  await withClient(database.ownerUrl, async (client) => {
    const flag = await insertFlag(client);
    await client.query('alter table app_public.feature_flags disable trigger _900_audit_delete');
    await client.query('delete from app_public.feature_flags where id = $1', [flag.id]);
    await client.query(
      'alter table app_public.feature_flags enable always trigger _900_audit_delete',
    );
    await client.query('begin');
    const cursor = { step: 'deleted', since: '-infinity', startedAt: '2026-01-01' };
    const step = `select from_rows from app_private.reconcile_audit('full', $1)`;
    expect(await value(client, step, [JSON.stringify(cursor)])).toBe(1);
    const second = reconcileAs(database, 'full');
    await vi.waitFor(
      async () => {
        expect(await value(client, WAITING)).toBe(1);
      },
      { timeout: 10_000 },
    );
    await client.query('commit');
    expect(await second).toMatchObject({ fromRows: 0 });
    expect(await problemsOf(client)).toEqual([]);
    expect(await value(client, 'select count(*)::int from audit.dead_letters')).toBe(0);
  });
});
