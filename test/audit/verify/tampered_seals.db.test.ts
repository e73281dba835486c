import { describe, expect, test } from 'vitest';
import { useDatabase } from '../../support/database.ts';
import { afterTampering, event, brief } from '../../support/tampering.ts';

const database = useDatabase();

describe('the ledger', () => {
  const FORGED = `sha256('forged')`;

  test('a leaf changed', async () => {
    const found = await afterTampering(
      database,
      `update audit.ledger set leaf = ${FORGED} where seq = 11`,
    );
    expect(brief(found)).toEqual([['leaf_altered', 2, [11]]]);
  });

  test('an event changed together with its leaf', async () => {
    const found = await afterTampering(
      database,
      `update audit.events set environment = 'staging',
         payload = replace(payload, '"production"', '"staging"') where ${event(12)}`,
      `update audit.ledger l
       set leaf = app_private.leaf_hash(app_private.shipped_message(e.payload, l.seq)), environment = e.environment
       from audit.events e where e.id = l.event_id and l.seq = 12`,
    );
    expect(brief(found)).toEqual([['root_differs', 2, null]]);
  });

  test('a row deleted', async () => {
    const found = await afterTampering(database, 'delete from audit.ledger where seq = 14');
    expect(brief(found)).toEqual([
      ['leaf_missing', 2, [14]],
      ['event_unsealed', null, null],
    ]);
  });

  test.for([
    ['event_id', 'gen_random_uuid()'],
    ['occurred_at', "occurred_at - interval '1 day'"],
  ])('its %s changed', async ([column, to]) => {
    const found = await afterTampering(
      database,
      `update audit.ledger set ${column} = ${to} where seq = 14`,
    );
    expect(brief(found)).toEqual([['column_differs', 2, [14]]]);
    expect(found[0]?.detail).toContain("ledger's row");
  });

  test.for(['event_type', 'flag_key', 'environment'])(
    'its copy of the %s changed, or emptied',
    async (column) => {
      for (const to of ["'forged'", 'null']) {
        const found = await afterTampering(
          database,
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
    const found = await afterTampering(
      database,
      forge('events', event(14)),
      forge('ledger', 'seq = 14'),
    );
    expect(brief(found)).toEqual([['column_differs', 2, [14]]]);
    expect(found[0]?.detail).toBe("Not what the event's text says: flag_key.");
  });

  test('a row put in behind the last seal', async () => {
    const found = await afterTampering(
      database,
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
      brief(
        await afterTampering(
          database,
          `update audit.seals set ${column} = ${to} where seal_no = 2`,
        ),
      ),
    ).toEqual(expected);
  });

  test.for(['first_seq = 1', 'last_seq = 19', 'last_seq = 9000000000000000000', 'first_seq = 30'])(
    'changed to %s',
    async (change) => {
      const found = await afterTampering(
        database,
        `update audit.seals set ${change} where seal_no = 2`,
      );
      expect(found.length).toBeGreaterThan(0);
      expect(found.filter(({ seal }) => seal === 2).map(({ status }) => status)).toContain(
        'chain_broken',
      );
      expect(found.every(({ seal }) => seal === 2 || seal === 3 || seal === null)).toBe(true);
    },
  );

  test('changed with a head that fits', async () => {
    const found = await afterTampering(
      database,
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
    const found = await afterTampering(database, 'delete from audit.seals where seal_no = 2');
    expect(brief(found)).toEqual([['chain_broken', 3, null]]);
    expect(found[0]?.detail).toBe('The seals 2 to 2 are gone.');
  });

  test('taken away at the beginning', async () => {
    const found = await afterTampering(database, 'delete from audit.seals where seal_no = 0');
    expect(brief(found)).toEqual([['chain_broken', 1, null]]);
  });

  test('the first of all changed', async () => {
    const found = await afterTampering(
      database,
      `update audit.seals set previous_head = sha256('forged') where seal_no = 0`,
    );
    expect(brief(found)).toEqual([['chain_broken', 0, null]]);
  });

  test('rewritten one and all with what they seal: only a copy outside tells', async () => {
    const found = await afterTampering(
      database,
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
      database,
      `insert into audit.cursors (destination, last_seq) values ('stdout', 25), ('slow', 20)`,
      ...CUT,
    );
    expect(brief(found)).toEqual([['tail_cut', null, [20 + 5]]]);
    expect(found[0]?.detail).toContain('stdout');
  });

  test('without any destination only a copy outside tells', async () => {
    expect(await afterTampering(database, ...CUT)).toEqual([]);
  });

  test('seals alone taken away leave numbers behind', async () => {
    const found = await afterTampering(database, 'delete from audit.seals where seal_no = 3');
    expect(brief(found)).toEqual([['not_sealed', null, [21, 22, 23, 24, 25]]]);
  });

  test('all seals taken away', async () => {
    const found = await afterTampering(database, 'delete from audit.seals');
    expect(found.map(({ status }) => status)).toEqual(['not_sealed']);
    expect(found[0]?.seqs).toHaveLength(25);
  });
});
