import type pg from 'pg';
import { describe, expect, test } from 'vitest';
import { actAs, value, withActors } from '../../support/actors.ts';
import { useDatabase } from '../../support/database.ts';
import { findings, sealAll, sealFlags, tamper, type Finding } from '../../support/sealed_trail.ts';

const database = useDatabase();

/** Three seals over 25 events (1 to 10, 11 to 20, 21 to 25), changed as told; gives what an auditor finds. */
async function afterTampering(...statements: string[]): Promise<Finding[]> {
  return withActors(database, async (client) => {
    await sealFlags(client, 25);
    await tamper(client, ...statements);
    await actAs(client, 'halyard_auditor');
    return findings(client);
  });
}

/** Which event has a number. */
const event = (seq: number) =>
  `(id, occurred_at) = (select event_id, occurred_at from audit.ledger where seq = ${seq})`;

const brief = (found: readonly Finding[]) =>
  found.map(({ seal, status, seqs }) => [status, seal, seqs]);

test('nothing changed: nothing found', async () => {
  expect(await afterTampering()).toEqual([]);
});

describe('a column of an event is changed', () => {
  /** What else a column of this type could say. */
  const OTHER: Record<string, string> = {
    uuid: 'gen_random_uuid()',
    text: "'forged'",
    bigint: '4711',
    boolean: 'not reconciled',
    jsonb: `metadata || '{"after": {"enabled": true}}'`,
  };
  const SPECIAL: Record<string, string> = {
    level: "'error'",
    actor_kind: "'system'",
    occurred_at: "occurred_at + interval '1 microsecond'",
    payload: `replace(payload, '"enabled": false', '"enabled": true')`,
  };

  async function columns(client: pg.ClientBase): Promise<{ name: string; type: string }[]> {
    const { rows } = await client.query<{ name: string; type: string }>(
      `select attname::text as name, atttypid::regtype::text as type from pg_attribute
       where attrelid = 'audit.events'::regclass and attnum > 0 and not attisdropped`,
    );
    return rows;
  }

  test('each of them is told by name, and nothing else', async () => {
    const all = await withActors(database, columns);
    expect(all.length).toBeGreaterThanOrEqual(18);
    for (const { name, type } of all) {
      const to = SPECIAL[name] ?? OTHER[type] ?? `no value for ${type}`;
      const found = await afterTampering(
        `update audit.events set ${name} = ${to} where ${event(12)}`,
      );
      const status = name === 'payload' ? 'event_altered' : 'column_differs';
      expect.soft(brief(found), name).toEqual([[status, 2, [12]]]);
      if (name !== 'payload')
        expect.soft(found[0]?.detail).toBe(`Not what the event's text says: ${name}.`);
    }
  });

  test('each that may be null is told when it is emptied', async () => {
    const { names } = await withActors(database, async (client) => {
      await sealFlags(client, 1);
      const { rows } = await client.query<{ names: string[] }>(
        `select array(select a.attname::text from pg_attribute a
           where a.attrelid = 'audit.events'::regclass and a.attnum > 0 and not a.attnotnull
             and to_jsonb(e) -> a.attname::text <> 'null') as names from audit.events e`,
      );
      return rows[0] ?? { names: [] };
    });
    expect(names).toEqual(
      expect.arrayContaining(['flag_key', 'flag_id', 'revision', 'environment']),
    );
    for (const name of names) {
      const found = await afterTampering(
        `update audit.events set ${name} = null where ${event(3)}`,
      );
      expect.soft(brief(found), name).toEqual([['column_differs', 1, [3]]]);
      expect.soft(found[0]?.detail).toContain(name);
    }
  });

  test('a time in another month', async () => {
    const found = await afterTampering(
      `update audit.events set occurred_at = occurred_at + interval '1 month' where ${event(25)}`,
    );
    expect(brief(found)).toEqual([['column_differs', 3, [25]]]);
    expect(found[0]?.detail).toContain('occurred_at');
  });

  test('column and text changed together are an altered text', async () => {
    const found = await afterTampering(
      `update audit.events set environment = 'staging',
         payload = replace(payload, '"production"', '"staging"') where ${event(12)}`,
    );
    expect(brief(found)).toEqual([['event_altered', 2, [12]]]);
  });

  test.for(['not JSON', '', 'null', '{"level": 1}'])('the text %j', async (text) => {
    const found = await afterTampering(
      `update audit.events set payload = '${text}' where ${event(12)}`,
    );
    expect(brief(found)).toEqual([['event_altered', 2, [12]]]);
  });
});

describe('events', () => {
  test('deleted', async () => {
    const found = await afterTampering(`delete from audit.events where ${event(5)} or ${event(6)}`);
    expect(brief(found)).toEqual([['event_missing', 1, [5, 6]]]);
  });

  test('put in by hand, with a text of its own or with another’s', async () => {
    const found = await afterTampering(
      `insert into audit.events select (jsonb_populate_record(e, jsonb_build_object('id', gen_random_uuid()))).*
       from audit.events e where ${event(5)}`,
    );
    expect(brief(found)).toEqual([['event_unsealed', null, null]]);
    expect(found[0]?.detail).toMatch(/^1 events are neither sealed nor queued/);
  });

  test('put in by hand under the id of another, in another month', async () => {
    const found = await afterTampering(
      `insert into audit.events select (jsonb_populate_record(e, jsonb_build_object(
         'occurred_at', e.occurred_at + interval '1 month'))).* from audit.events e where ${event(5)}`,
    );
    expect(brief(found)).toEqual([['event_unsealed', null, null]]);
  });

  test('given the text of another', async () => {
    const found = await afterTampering(
      `update audit.events set payload = (select payload from audit.events where ${event(4)}) where ${event(3)}`,
    );
    expect(brief(found)).toEqual([['event_altered', 1, [3]]]);
  });
});

describe('the ledger', () => {
  const FORGED = `sha256('forged')`;

  test('a leaf changed', async () => {
    const found = await afterTampering(`update audit.ledger set leaf = ${FORGED} where seq = 11`);
    expect(brief(found)).toEqual([['leaf_altered', 2, [11]]]);
  });

  test('an event changed together with its leaf', async () => {
    const found = await afterTampering(
      `update audit.events set environment = 'staging',
         payload = replace(payload, '"production"', '"staging"') where ${event(12)}`,
      `update audit.ledger l
       set leaf = app_private.leaf_hash(app_private.shipped_message(e.payload, l.seq)), environment = e.environment
       from audit.events e where e.id = l.event_id and l.seq = 12`,
    );
    expect(brief(found)).toEqual([['root_differs', 2, null]]);
  });

  test('a row deleted', async () => {
    const found = await afterTampering('delete from audit.ledger where seq = 14');
    expect(brief(found)).toEqual([
      ['leaf_missing', 2, [14]],
      ['event_unsealed', null, null],
    ]);
  });

  test.for([
    ['event_id', 'gen_random_uuid()'],
    ['occurred_at', "occurred_at - interval '1 day'"],
  ])('its %s changed', async ([column, to]) => {
    const found = await afterTampering(`update audit.ledger set ${column} = ${to} where seq = 14`);
    expect(brief(found)).toEqual([['column_differs', 2, [14]]]);
    expect(found[0]?.detail).toContain("ledger's row");
  });

  test.for(['event_type', 'flag_key', 'environment'])(
    'its copy of the %s changed, or emptied',
    async (column) => {
      for (const to of ["'forged'", 'null']) {
        const found = await afterTampering(
          `update audit.ledger set ${column} = ${to} where seq = 14`,
        );
        expect.soft(brief(found), to).toEqual([['column_differs', 2, [14]]]);
        expect.soft(found[0]?.detail).toContain(column);
      }
    },
  );

  test('its copy changed together with the event’s column', async () => {
    const forge = (table: string, where: string) =>
      `update audit.${table} set flag_key = 'forged' where ${where}`;
    const found = await afterTampering(forge('events', event(14)), forge('ledger', 'seq = 14'));
    expect(brief(found)).toEqual([['column_differs', 2, [14]]]);
    expect(found[0]?.detail).toBe("Not what the event's text says: flag_key.");
  });

  test('a row put in behind the last seal', async () => {
    const found = await afterTampering(
      `insert into audit.ledger (seq, event_id, occurred_at, leaf) values (26, gen_random_uuid(), now(), ${FORGED})`,
    );
    expect(brief(found)).toEqual([['not_sealed', null, [26]]]);
  });
});

describe('seals', () => {
  test.for([
    ['head', "sha256('forged')", [['chain_broken', 2, null]]],
    [
      'root',
      "sha256('forged')",
      [
        ['chain_broken', 2, null],
        ['root_differs', 2, null],
      ],
    ],
    ['previous_head', "sha256('forged')", [['chain_broken', 2, null]]],
  ] as const)('%s changed', async ([column, to, expected]) => {
    expect(
      brief(await afterTampering(`update audit.seals set ${column} = ${to} where seal_no = 2`)),
    ).toEqual(expected);
  });

  test.for(['first_seq = 1', 'last_seq = 19', 'last_seq = 9000000000000000000', 'first_seq = 30'])(
    'changed to %s',
    async (change) => {
      const found = await afterTampering(`update audit.seals set ${change} where seal_no = 2`);
      expect(found.length).toBeGreaterThan(0);
      expect(found.filter(({ seal }) => seal === 2).map(({ status }) => status)).toContain(
        'chain_broken',
      );
      expect(found.every(({ seal }) => seal === 2 || seal === 3 || seal === null)).toBe(true);
    },
  );

  test('changed with a head that fits', async () => {
    const found = await afterTampering(
      `update audit.seals set root = sha256('forged'),
         head = app_private.seal_head(previous_head, trail, incarnation, seal_no, first_seq, last_seq - first_seq + 1, sha256('forged'))
       where seal_no = 2`,
    );
    expect(brief(found)).toEqual([
      ['root_differs', 2, null],
      ['chain_broken', 3, null],
    ]);
  });

  test('taken out of the middle', async () => {
    const found = await afterTampering('delete from audit.seals where seal_no = 2');
    expect(brief(found)).toEqual([['chain_broken', 3, null]]);
    expect(found[0]?.detail).toBe('The seals 2 to 2 are gone.');
  });

  test('taken away at the beginning', async () => {
    const found = await afterTampering('delete from audit.seals where seal_no = 0');
    expect(brief(found)).toEqual([['chain_broken', 1, null]]);
  });

  test('the first of all changed', async () => {
    const found = await afterTampering(
      `update audit.seals set previous_head = sha256('forged') where seal_no = 0`,
    );
    expect(brief(found)).toEqual([['chain_broken', 0, null]]);
  });

  test('rewritten one and all with what they seal: only a copy outside tells', async () => {
    const found = await afterTampering(
      `update audit.events set environment = 'staging',
         payload = replace(payload, '"production"', '"staging"') where ${event(12)}`,
      `update audit.ledger l
       set leaf = app_private.leaf_hash(app_private.shipped_message(e.payload, l.seq)), environment = e.environment
       from audit.events e where e.id = l.event_id`,
      'delete from audit.seals where seal_no > 0',
      `do $$
       declare v_seal audit.seals;
       begin
         for i in 0..2 loop
           select s.* into v_seal from audit.seals s order by s.seal_no desc limit 1;
           perform app_private.write_seal(v_seal, v_seal.last_seq + 1, array(
             select leaf from audit.ledger where seq > i * 10 and seq <= (i + 1) * 10 order by seq));
         end loop;
       end $$`,
    );
    expect(found).toEqual([]);
  });
});

describe('the tail is cut', () => {
  const CUT = [
    'delete from audit.seals where seal_no = 3',
    `delete from audit.events where id in (select event_id from audit.ledger where seq > 20)`,
    'delete from audit.ledger where seq > 20',
  ];

  test('a destination that has confirmed more tells', async () => {
    const found = await afterTampering(
      `insert into audit.cursors (destination, last_seq) values ('stdout', 25), ('slow', 20)`,
      ...CUT,
    );
    expect(brief(found)).toEqual([['tail_cut', null, [20 + 5]]]);
    expect(found[0]?.detail).toContain('stdout');
  });

  test('without any destination only a copy outside tells', async () => {
    expect(await afterTampering(...CUT)).toEqual([]);
  });

  test('seals alone taken away leave numbers behind', async () => {
    const found = await afterTampering('delete from audit.seals where seal_no = 3');
    expect(brief(found)).toEqual([['not_sealed', null, [21, 22, 23, 24, 25]]]);
  });

  test('all seals taken away', async () => {
    const found = await afterTampering('delete from audit.seals');
    expect(found.map(({ status }) => status)).toEqual(['not_sealed']);
    expect(found[0]?.seqs).toHaveLength(25);
  });
});

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
    const found = await afterTampering(DELETE, purged(10, 10));
    expect(brief(found)).toEqual([
      ['event_missing', 1, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]],
      ['event_unsealed', null, null],
    ]);
  });

  test('does not account for later events, whatever the ledger dates them', async () => {
    const found = await afterTampering(
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
      purged(0, 0),
      QUEUE,
      `delete from audit.events where ${event(15)}`,
    );
    expect(brief(found)).toEqual([['event_missing', 2, [15]]]);
  });

  test('does not account for more events than it took', async () => {
    const found = await afterTampering(DELETE, purged(10, 9), QUEUE);
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

test('the range that is asked for is the one that is looked at', async () => {
  await withActors(database, async (client) => {
    await sealFlags(client, 25);
    await tamper(client, `delete from audit.events where ${event(5)} or ${event(25)}`);
    expect(brief(await findings(client, 1, 20))).toEqual([['event_missing', 1, [5]]]);
    expect(brief(await findings(client, 11, 20))).toEqual([]);
    expect(brief(await findings(client, 11))).toEqual([['event_missing', 3, [25]]]);
    expect(await value(client, 'select count(*)::int from audit.verify(12, 13)')).toBe(1);
  });
});
