import { describe, expect, test } from 'vitest';
import { value, withActors } from '../../support/actors.ts';
import { useDatabase } from '../../support/database.ts';
import { insertFlag } from '../../support/factory.ts';
import { sqlStateOf } from '../../support/roles.ts';

const database = useDatabase();

const THIS_MONTH = `select to_char(now() at time zone 'UTC', '"audit.events_"YYYY_MM')`;

describe('the trail is append-only, for its owner and for a superuser', () => {
  const PARTITION = 'PARTITION';
  const STATEMENTS = [
    `update audit.events set flag_key = 'x'`,
    `update audit.events set flag_key = 'x' where false`,
    `update ${PARTITION} set flag_key = 'x'`,
    `update ${PARTITION} set flag_key = 'x' where false`,
    'delete from audit.events',
    'delete from audit.events where false',
    `delete from ${PARTITION}`,
    `delete from only ${PARTITION} where false`,
    'truncate audit.events',
    `truncate ${PARTITION}`,
    `truncate only ${PARTITION}`,
    'truncate audit.events, audit.ledger, audit.queue cascade',
    'update audit.ledger set seq = seq + 1',
    'update audit.ledger set seq = 1 where false',
    'delete from audit.ledger',
    'delete from audit.ledger where false',
    'truncate audit.ledger',
    `insert into audit.events select * from audit.events
     on conflict (id, occurred_at) do update set flag_key = 'x'`,
    `merge into audit.events e using (select) s on true when matched then delete`,
    `merge into ${PARTITION} e using (select) s on true when matched then update set flag_key = 'x'`,
    `with gone as (delete from audit.ledger returning *) select * from gone`,
  ];

  test.for<[string, string[]]>([
    ['the owner', ['set local role halyard_owner']],
    ['a superuser', ['reset role']],
    [
      'a superuser who silences triggers',
      ['reset role', 'set local session_replication_role = replica'],
    ],
  ])('%s', async ([, preparation]) => {
    await withActors(database, async (client) => {
      await insertFlag(client);
      await client.query('select app_private.seal_batch(1000, 0)');
      const partition = await value<string>(client, THIS_MONTH);
      const digest = () =>
        value<string>(
          client,
          `select md5((select string_agg(e::text, '') from audit.events e) || (select string_agg(l::text, '') from audit.ledger l))`,
        );
      const before = await digest();
      for (const line of preparation) await client.query(line);
      for (const text of STATEMENTS) {
        const sql = text.replace(PARTITION, partition);
        expect.soft(await sqlStateOf(client, () => client.query(sql)), sql).toBe('ZF009');
      }
      expect(await digest()).toBe(before);
    });
  });

  test('each month’s partition, the ones to come too', async () => {
    await withActors(database, async (client) => {
      await client.query('select app_private.ensure_audit_partitions(14)');
      const { rows } = await client.query<{ name: string }>(
        `select inhrelid::regclass::text as name from pg_inherits where inhparent = 'audit.events'::regclass`,
      );
      expect(rows).toHaveLength(16);
      for (const { name } of rows)
        for (const verb of ['truncate', 'delete from'])
          expect(await sqlStateOf(client, () => client.query(`${verb} ${name}`)), name).toBe(
            'ZF009',
          );
    });
  });
});
