import { describe, expect, test } from 'vitest';
import { actAs, withActors } from '../../support/actors.ts';
import { useDatabase } from '../../support/database.ts';
import { findings, sealAll, sealFlags, tamper } from '../../support/sealed_trail.ts';
import { afterTampering, event, brief } from '../../support/tampering.ts';

const database = useDatabase();

describe('a purge', () => {
  /** An audit.purged event that says that everything before tomorrow was purged. */
  const purged = (to: number, events: number) =>
    `insert into audit.events select e.* from jsonb_populate_record(app_private.make_event(
       gen_random_uuid(), clock_timestamp(), 'audit.purged', null, null, null, null, null, jsonb_build_object(
         'before', app_private.iso(now() + interval '1 day'), 'eventsInAll', ${events}, 'lastSeqInAll', ${to})), '{"level": "info"}') as m
     cross join lateral jsonb_populate_record(
       null::audit.events, to_jsonb(m) || jsonb_build_object('payload', app_private.render_event(m))) as e`;
  const QUEUE = `insert into audit.queue (event_id, occurred_at)
    select id, occurred_at from audit.events where event_type = 'audit.purged'`;
  const DELETE = `delete from audit.events where id in (select event_id from audit.ledger where seq <= 10)`;

  test('that is sealed accounts for what it took', async () => {
    const found = await withActors(database, async (client) => {
      await sealFlags(client, 25);
      await tamper(client, DELETE, purged(10, 10), QUEUE);
      await sealAll(client);
      await actAs(client, 'halyard_auditor');
      return findings(client);
    });
    expect(brief(found)).toEqual([['purged', 1, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]]]);
  });

  test('that was put in by hand accounts for nothing', async () => {
    const found = await afterTampering(database, DELETE, purged(10, 10));
    expect(brief(found)).toEqual([
      ['event_missing', 1, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]],
      ['event_unsealed', null, null],
    ]);
  });

  test('does not account for later events, whatever the ledger dates them', async () => {
    const found = await afterTampering(
      database,
      DELETE,
      purged(10, 10),
      QUEUE,
      `delete from audit.events where ${event(15)}`,
      `update audit.ledger set occurred_at = occurred_at - interval '1 year' where seq = 15`,
    );
    expect(brief(found)).toEqual([
      ['purged', 1, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]],
      ['event_missing', 2, [15]],
    ]);
  });

  test('of an empty month accounts for nothing', async () => {
    const found = await afterTampering(
      database,
      purged(0, 0),
      QUEUE,
      `delete from audit.events where ${event(15)}`,
    );
    expect(brief(found)).toEqual([['event_missing', 2, [15]]]);
  });

  test('does not account for more events than it took', async () => {
    const found = await afterTampering(database, DELETE, purged(10, 9), QUEUE);
    expect(found.map(({ status }) => status)).toEqual(['purged', 'event_missing']);
    expect(found[1]?.detail).toMatch(/^10 events are gone .* took 9\.$/);
  });

  test('whose text is changed accounts for nothing', async () => {
    const found = await withActors(database, async (client) => {
      await sealFlags(client, 25);
      await tamper(client, DELETE, purged(10, 10), QUEUE);
      await sealAll(client);
      await tamper(
        client,
        `update audit.events set payload = replace(payload, '"lastSeqInAll": 10', '"lastSeqInAll": 20') where event_type = 'audit.purged'`,
      );
      await actAs(client, 'halyard_auditor');
      return findings(client);
    });
    expect(brief(found)).toEqual([
      ['event_missing', 1, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]],
      ['event_altered', 4, [26]],
    ]);
  });
});
