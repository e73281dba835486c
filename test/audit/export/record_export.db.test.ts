import pg from 'pg';
import { describe, expect, test } from 'vitest';

import { readEvents } from '../../../src/audit/export/export.ts';
import type { ExportQuery, Transaction } from '../../../src/audit/export/export.ts';
import { seekStatement, walkStatement } from '../../../src/audit/export/query.ts';
import { actAsOwner, value, withActors } from '../../support/actors.ts';
import { useDatabase } from '../../support/database.ts';
import { addEvents, addMany } from '../../support/export.ts';
import { become, sqlStateOf } from '../../support/roles.ts';
import { deadLetters, queuedEvents } from '../../support/trail.ts';

const database = useDatabase();
const { escapeLiteral: literal } = pg;
const RECORD = 'select audit.record_export($1, $2, $3)';

describe('audit.record_export', () => {
  test('writes who exports what, by which request', async () => {
    await withActors(database, async (client) => {
      await become(client, 'auditor', { userId: 'olga', email: 'o@example.com', requestId: 'r-1' });
      await client.query(RECORD, ['csv', '{"flag": "wishlist", "type": ["a.b"]}', true]);
      await actAsOwner(client);
      const [event, ...others] = await queuedEvents(client);
      expect(others).toEqual([]);
      expect(event).toMatchObject({
        event_type: 'audit.exported',
        level: 'info',
        flag_key: null,
        environment: null,
        schedule_id: null,
        revision: null,
        actor_kind: 'admin',
        admin_user_id: 'olga',
        admin_email: 'o@example.com',
        request_id: 'r-1',
        metadata: {
          format: 'csv',
          filters: { flag: 'wishlist', type: ['a.b'] },
          follow: true,
          adminUserId: 'olga',
          adminEmail: 'o@example.com',
        },
      });
    });
  });

  test('names the login of a DBA who has no token', async () => {
    await withActors(database, async (client) => {
      await client.query('set local role halyard_auditor');
      await client.query(RECORD, ['ndjson', '{}', false]);
      await actAsOwner(client);
      expect(await queuedEvents(client)).toMatchObject([
        { actor_kind: 'database', database_user: 'postgres', admin_user_id: null },
      ]);
    });
  });

  test('is hidden from a reader who is limited to environments', async () => {
    await withActors(database, async (client) => {
      const count = 'select count(*)::int from audit.events';
      await become(client, 'admin', { environments: ['production'] });
      await client.query(RECORD, ['json', '{}', false]);
      expect(await value(client, count)).toBe(0);
      await become(client, 'admin');
      expect(await value(client, count)).toBe(1);
    });
  });

  test.each([
    ['xml', '{}', false],
    [null, '{}', false],
    ['csv', '[]', false],
    ['csv', null, false],
    ['csv', '{}', null],
    ['csv', JSON.stringify({ flag: 'x'.repeat(8000) }), false],
  ])('refuses the format %j, the filters %j and follow %j', async (...parameters: unknown[]) => {
    await withActors(database, async (client) => {
      await become(client, 'admin');
      expect(await sqlStateOf(client, () => client.query(RECORD, parameters))).toBe('23514');
    });
  });

  test('is not for a viewer’s token, whatever the role', async () => {
    await withActors(database, async (client) => {
      await become(client, 'viewer');
      const call = () => client.query(RECORD, ['csv', '{}', false]);
      expect(await sqlStateOf(client, call)).toBe('42501');
      await client.query(`select set_config('role', 'halyard_auditor', true)`);
      expect(await sqlStateOf(client, call)).toBe('42501');
    });
  });

  test('keeps the event as a dead letter when it can’t be written', async () => {
    await withActors(database, async (client) => {
      await client.query('alter table audit.events rename to elsewhere');
      await become(client, 'admin', { userId: 'alice' });
      await client.query(RECORD, ['csv', '{"flag": "x"}', false]);
      await actAsOwner(client);
      const [letter] = await deadLetters(client);
      expect(letter).toMatchObject({ error_code: '42P01', content: { operation: 'EXPORT' } });
      expect(letter?.content.events?.[0]).toMatchObject({
        event_type: 'audit.exported',
        admin_user_id: 'alice',
        metadata: { filters: { flag: 'x' } },
      });
    });
  });

  test('refuses in strict mode when the event can’t be written', async () => {
    await withActors(database, async (client) => {
      await client.query('alter table audit.events rename to elsewhere');
      await client.query(`set local halyard.audit_mode = 'strict'`);
      await become(client, 'admin');
      const call = () => client.query(RECORD, ['csv', '{}', false]);
      expect(await sqlStateOf(client, call)).toBe('ZF011');
    });
  });
});

test('audit.last_seq tells the end of the trail also to a reader who may not see it', async () => {
  await withActors(database, async (client) => {
    expect(await value(client, 'select audit.last_seq()')).toBe('0');
    await addEvents(client, [{ environment: 'production' }, { environment: 'staging' }]);
    await become(client, 'admin', { environments: ['elsewhere'] });
    expect(await value(client, 'select audit.last_seq()')).toBe('2');
    expect(await value(client, 'select count(*)::int from audit.ledger')).toBe(0);
  });
});

test('an admin and an auditor get the very message that was shipped', async () => {
  await withActors(database, async (client) => {
    await addEvents(client, [{}]);
    const message = await value(
      client,
      'select app_private.shipped_message(e.payload, l.seq) from audit.events e, audit.ledger l',
    );
    const step = { after: 0, window: 10, until: null, limit: 10 };
    for (const role of ['admin', 'auditor'] as const) {
      await become(client, role);
      const { rows } = await client.query<{ message: string }>(walkStatement({}, step));
      expect(rows[0]?.message).toBe(message);
    }
  });
});

describe('plans, with all events of one statement and so of one time', () => {
  const explain = async (client: pg.ClientBase, { text, values }: pg.QueryConfig) => {
    const { rows } = await client.query<Record<'QUERY PLAN', string>>(
      `explain (analyze, costs off, timing off, summary off, buffers off) ${text}`,
      values,
    );
    return rows.map((row) => row['QUERY PLAN']).join('\n');
  };
  /** Of the plan that is kept for all values. */
  const explainKept = async (client: pg.ClientBase, { text, values = [] }: pg.QueryConfig) => {
    await client.query(`set local plan_cache_mode = force_generic_plan; prepare kept as ${text}`);
    const literals = values.map((each) => (each === null ? 'null' : literal(String(each))));
    const plan = await explain(client, { text: `execute kept (${literals.join()})` });
    await client.query('deallocate kept');
    return plan;
  };

  test('a step looks up its window’s numbers and each one’s event, and reads nothing before', async () => {
    await withActors(database, async (client) => {
      await addMany(client, 5_000);
      await client.query('set local role postgres');
      await client.query('analyze audit.events, audit.ledger');
      const step = { after: 4_000, window: 500, until: null, limit: 1_000 };
      for (const claims of [{}, { environments: ['production'] }]) {
        await become(client, 'auditor', claims);
        for (const plan of [
          await explain(client, walkStatement({}, step)),
          await explainKept(client, walkStatement({}, step)),
        ]) {
          expect(plan).toMatch(
            /Index Scan using ledger_pkey on ledger l \(actual rows=500(?:\.00)? loops=1\)/,
          );
          expect(plan).toMatch(
            /_(?:pkey|occurred_at_id_idx) on events_\d{4}_\d\d e_?\d* \(actual rows=1(?:\.00)? loops=500\)/,
          );
          expect(plan).not.toMatch(/Seq Scan on events_\S+ e\S* \(actual/);
        }
      }
    });
  });

  test('a flag that few events tell of is found by its index', async () => {
    await withActors(database, async (client) => {
      await addMany(client, 5_000);
      await addEvents(client, [{ flag: 'rare' }]);
      await client.query('set local role postgres');
      await client.query('analyze audit.events, audit.ledger');
      await become(client, 'auditor');
      const plan = await explain(client, seekStatement({ flag: 'rare' }, 100));
      expect(plan).toMatch(/flag_key_occurred_at_id_idx/);
      expect(plan).toMatch(/ledger_event_id_key/);
    });
  });
});

describe('reading the events of a flag', () => {
  /** Their numbers, and how many transactions it took. */
  async function read(client: pg.ClientBase, query: ExportQuery, last: number) {
    let transactions = 0;
    const transaction: Transaction = (work) => {
      transactions++;
      return work(client);
    };
    const seqs: number[] = [];
    for await (const { rows, position } of readEvents(transaction, query, last)) {
      seqs.push(...rows.map(({ seq }) => Number(seq)));
      expect(position).toBeGreaterThanOrEqual(seqs.at(-1) ?? 0);
    }
    return { seqs, transactions };
  }

  test('has each once and in order, wherever they are, and takes few looks', async () => {
    await withActors(database, async (client) => {
      const rare = async () => addEvents(client, [{ flag: 'rare' }]);
      await rare();
      await addMany(client, 3_000);
      await rare();
      await addMany(client, 3_000);
      await rare();
      const last = 6_003;
      // A first look, a search by the index, and the picking of what it found.
      const all = await read(client, { flag: 'rare' }, last);
      expect(all).toEqual({ seqs: [1, 3_002, 6_003], transactions: 3 });
      const { seqs } = await read(client, { flag: 'rare', limit: 2 }, last);
      expect(seqs).toEqual([1, 3_002]);
      const later = await read(client, { flag: 'rare', after: 1, until: 6_002 }, last);
      expect(later.seqs).toEqual([3_002]);
      const none = await read(client, { flag: 'none' }, last);
      expect(none.seqs).toEqual([]);

      // The first look has the page: nothing is searched and sorted.
      const page = await read(client, { flag: 'many', limit: 51 }, last);
      expect(page).toEqual({ seqs: Array.from({ length: 51 }, (_, i) => i + 2), transactions: 1 });
      // A step's plan is made once.
      const kept = `select count(*)::int from pg_prepared_statements where name like 'export_%' and generic_plans > 0`;
      expect(await value(client, kept)).toBe(2);
      const many = await read(client, { flag: 'many', after: 10 }, last);
      expect(many.seqs).toHaveLength(6_000 - 9);
      expect(new Set(many.seqs).size).toBe(many.seqs.length);
      expect(many.seqs).toEqual(many.seqs.toSorted((a, b) => a - b));
    });
  });
});
