import type pg from 'pg';
import { expect, test } from 'vitest';
import { value } from '../../support/actors.ts';
import { withClient } from '../../support/database.ts';
import { reconcileAs, rerunFixtures, withOwner } from '../../support/reconcile.ts';
import { become } from '../../support/roles.ts';
import { findings, sealAll } from '../../support/sealed_trail.ts';
import { useFreshDatabase } from '../../support/worker.ts';

const set = (client: pg.ClientBase, text: string) =>
  client.query(`select app_private.set_setting('pending_per_flag', $1)`, [text]);

async function events(client: pg.ClientBase): Promise<object[]> {
  const { rows } = await client.query<object>(
    `select event_type, level, actor_kind, reconciled, revision::int, metadata from audit.events
     where event_type ~ '^(setting|audit\\.exported)' order by occurred_at`,
  );
  return rows;
}

test('changes of a setting whose events are lost get one event that shows the row, once', async () => {
  const database = await useFreshDatabase();
  await withOwner(database, async (client) => {
    await set(client, '10');
    await client.query(`alter table app_private.settings disable trigger _900_audit`);
    await set(client, '20');
    await set(client, '30');
    await client.query(`alter table app_private.settings enable always trigger _900_audit`);
    expect(await reconcileAs(database, 'incremental')).toMatchObject({ fromRows: 1 });
    const instant: unknown = expect.stringMatching(/Z$/);
    expect((await events(client))[1]).toEqual({
      event_type: 'setting.reconciled',
      level: 'warning',
      actor_kind: 'system',
      reconciled: true,
      revision: 3,
      metadata: {
        name: 'pending_per_flag',
        revisions: [2, 3],
        rowRevision: 3,
        rowUpdatedAt: instant,
        after: '30',
      },
    });
    await set(client, '40');
    await sealAll(client);
    expect(await reconcileAs(database, 'full')).toMatchObject({ fromRows: 0 });
    expect(await events(client)).toHaveLength(3);
    expect(await findings(client)).toEqual([]);
  });
});

test('letters of a setting, an export and a denial whose events could not be made are replayed', async () => {
  const database = await useFreshDatabase();
  await withOwner(database, async (client) => {
    await client.query(
      'drop function app_private.make_event(uuid, timestamptz, text, uuid, text, text, uuid, bigint, jsonb) cascade',
    );
    await set(client, '10');
    await withClient(database.authenticatorUrl, async (api) => {
      await api.query('begin');
      await become(api, 'auditor', { userId: 'olga', requestId: 'r-1' });
      await api.query(`select audit.record_export('csv', '{"flag": "search"}')`);
      await api.query('reset role');
      await api.query(
        `select app_private.record_denial('PATCH /x', 'forbidden', 'search', 'staging')`,
      );
      await api.query('commit');
    });
    expect(await value(client, 'select count(*)::int from audit.dead_letters')).toBe(3);
    await rerunFixtures(client);
    expect(await reconcileAs(database, 'full')).toMatchObject({ fromLetters: 3, fromRows: 0 });
    expect(await value(client, 'select count(*)::int from audit.dead_letters')).toBe(0);
    const replayed = await client.query('select * from audit.events order by occurred_at');
    expect(replayed.rows).toMatchObject([
      {
        event_type: 'setting.changed',
        actor_kind: 'system',
        reconciled: true,
        revision: '1',
        metadata: { name: 'pending_per_flag', before: '1000', after: '10' },
      },
      {
        event_type: 'audit.exported',
        actor_kind: 'admin',
        admin_user_id: 'olga',
        request_id: 'r-1',
        reconciled: true,
        metadata: { format: 'csv', filters: { flag: 'search' }, follow: false },
      },
      {
        event_type: 'access.denied',
        actor_kind: 'admin',
        admin_user_id: 'olga',
        request_id: 'r-1',
        flag_key: 'search',
        environment: 'staging',
        reconciled: true,
        metadata: { operation: 'PATCH /x', flagKey: 'search', role: 'auditor' },
      },
    ]);
    expect(await reconcileAs(database, 'full')).toMatchObject({ fromLetters: 0, fromRows: 0 });
  });
});
