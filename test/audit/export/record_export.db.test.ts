import pg from 'pg';
import { describe, expect, test } from 'vitest';

import { makeEventReader, PAGE_BYTES } from '../../../src/audit/export/export.ts';
import type { ExportQuery, Transaction } from '../../../src/audit/export/export.ts';
import { ledgerScanStatement } from '../../../src/audit/export/query.ts';
import { actAsOwner, value, withActors } from '../../support/actors.ts';
import { useDatabase } from '../../support/database.ts';
import { addEvents, addMany } from '../../support/export.ts';
import { deliverAll, retain, writeOldMonths } from '../../support/old_trail.ts';
import { become, sqlStateOf } from '../../support/roles.ts';
import { sealAll } from '../../support/sealed_trail.ts';
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

  test('goes on with an export of the same user and filters, and no further than its event says', async () => {
    await withActors(database, async (client) => {
      await addMany(client, 10);
      const olga = { userId: 'olga' };
      await become(client, 'auditor', olga);
      const filters = { flag: 'a', limit: 5, after: 2 };
      const id = await value<string>(client, RECORD, ['json', filters, false]);
      const inStream = await value<string>(client, RECORD, ['csv', filters, false]);
      const goesOn = (given: object, exported: string | null = id) =>
        value<boolean>(client, 'select app_private.continues_export($1, $2)', [
          exported,
          { flag: 'a', limit: 9, after: 3, until: 10, ...given },
        ]);
      expect(await goesOn({})).toBe(true);
      for (const other of [{ flag: 'b' }, { type: ['x'] }, { after: 1 }, { until: 12 }])
        expect([other, await goesOn(other)]).toEqual([other, false]);
      expect(await goesOn({ until: undefined })).toBe(false);
      for (const other of [inStream, null, '00000000-0000-4000-8000-000000000000'])
        expect(await goesOn({}, other)).toBe(false);
      // Numbers up to its own: what it has is what there was.
      await actAsOwner(client);
      await sealAll(client);
      await addMany(client, 10);
      await become(client, 'auditor', olga);
      expect(await goesOn({ until: 11 })).toBe(true);
      expect(await goesOn({ until: 12 })).toBe(false);
      await become(client, 'auditor', { userId: 'zoe' });
      expect(await goesOn({})).toBe(false);
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
    const scan = { after: 0, until: 10, order: 'asc', limit: 10, bytes: PAGE_BYTES } as const;
    for (const role of ['admin', 'auditor'] as const) {
      await become(client, role);
      const { rows } = await client.query<{ message: string }>(ledgerScanStatement({}, scan));
      expect(rows[0]?.message).toBe(message);
    }
  });
});

describe('plans, with all events of one statement and so of one time', () => {
  /** The plan that is kept for all values. */
  async function explain(client: pg.ClientBase, ...query: Parameters<typeof ledgerScanStatement>) {
    const { text, values } = ledgerScanStatement(...query);
    await client.query(`set local plan_cache_mode = force_generic_plan; prepare kept as ${text}`);
    const literals = values.map((each) => literal(String(each)));
    const { rows } = await client.query<Record<'QUERY PLAN', string>>(
      `explain (analyze, costs off, timing off, summary off, buffers off) execute kept (${literals.join()})`,
    );
    await client.query('deallocate kept');
    return rows.map((row) => row['QUERY PLAN']).join('\n');
  }

  test.for(['asc', 'desc'] as const)(
    'a scan (%s) reads the numbers of its range, or those of a flag, and looks up each one’s event',
    async (order) => {
      await withActors(database, async (client) => {
        await addMany(client, 5_000);
        const flags = Array.from({ length: 50 }, (_, i) => ({ flag: `flag-${i}` }));
        await addEvents(client, [...flags, { flag: 'rare' }]);
        await client.query('set local role postgres');
        await client.query('analyze audit.events, audit.ledger');
        const direction = order === 'asc' ? '' : 'Backward ';
        const read = (index: string, rows: number) =>
          new RegExp(
            `Index Scan ${direction}using ${index} on ledger l \\(actual rows=${rows}(?:\\.00)? loops=1\\)`,
          );
        const lookedUp = (count: number) =>
          new RegExp(
            `_(?:pkey|occurred_at_id_idx) on events_\\d{4}_\\d\\d e_?\\d* \\(actual rows=1(?:\\.00)? loops=${count}\\)`,
          );
        for (const claims of [{}, { environments: ['production'] }]) {
          await become(client, 'auditor', claims);
          const range = { after: 4_000, until: 4_500, order, limit: 1_000, bytes: PAGE_BYTES };
          const all = await explain(client, {}, range);
          expect(all).toMatch(read('ledger_pkey', 500));
          expect(all).toMatch(lookedUp(500));
          expect(all).not.toMatch(/Seq Scan on events_\S+ e\S* \(actual/);
          const rare = await explain(client, { flag: 'rare' }, { ...range, until: 6_000 });
          expect(rare).toMatch(read('ledger_flag_key_idx', 1));
          expect(rare).toMatch(lookedUp(1));
        }
      });
    },
  );
});

describe('reading events', () => {
  /** Their numbers, and how many transactions it took. */
  async function read(client: pg.ClientBase, query: ExportQuery, last: number) {
    let transactions = 0;
    const transaction: Transaction = (work) => {
      transactions++;
      return work(client);
    };
    const seqs: number[] = [];
    const reader = makeEventReader(transaction, query, last);
    for (let page = await reader.next(); page !== undefined; page = await reader.next()) {
      const { rows } = page;
      seqs.push(...rows.map(({ seq }) => Number(seq)));
      const { after, until } = reader.remaining;
      expect(seqs.filter((seq) => seq > after && seq <= until)).toEqual([]);
    }
    return { seqs, transactions };
  }

  test('has each once and in order, wherever they are, and takes few scans', async () => {
    await withActors(database, async (client) => {
      const rare = async () => addEvents(client, [{ flag: 'rare', userId: 'zoe' }]);
      await rare();
      await addMany(client, 1_000);
      await rare();
      await rare();
      await addMany(client, 8_996);
      await rare();
      await rare();
      await addMany(client, 1_000);
      await rare();
      const last = 11_002;
      // On both sides of where a scan of 10,000 numbers ends, in either order.
      const found = [1, 1_002, 1_003, 10_000, 10_001, 11_002];
      for (const order of ['asc', 'desc'] as const) {
        const inOrder = (seqs: number[]) => (order === 'asc' ? seqs : seqs.toReversed());
        const all = await read(client, { flag: 'rare', order }, last);
        expect(all).toEqual({ seqs: inOrder(found), transactions: 1 });
        // An actor is looked for in each event: more scans, each of them short.
        const byActor = await read(client, { actor: 'zoe', order }, last);
        expect(byActor).toEqual({ seqs: inOrder(found), transactions: 2 });
        const { seqs } = await read(client, { actor: 'zoe', limit: 3, order }, last);
        expect(seqs).toEqual(inOrder(found).slice(0, 3));
        const some = await read(client, { flag: 'rare', after: 1, until: 11_001, order }, last);
        expect(some.seqs).toEqual(inOrder(found.slice(1, -1)));
        const none = await read(client, { flag: 'none', order }, last);
        expect(none).toEqual({ seqs: [], transactions: 1 });

        const page = await read(client, { flag: 'many', limit: 51, order }, last);
        const first = order === 'asc' ? 2 : 11_001 - 50;
        const between = Array.from({ length: 51 }, (_, i) => first + i);
        expect(page).toEqual({ seqs: inOrder(between), transactions: 1 });
        const many = await read(client, { flag: 'many', after: 10, order }, last);
        expect(many.seqs).toHaveLength(10_996 - 9);
        expect(new Set(many.seqs).size).toBe(many.seqs.length);
        expect(many.seqs).toEqual(inOrder(many.seqs.toSorted((a, b) => a - b)));
      }
      // A plan is made once for each statement, of which there are two in each order.
      const kept = `select count(*)::int from pg_prepared_statements where name like 'export_%' and generic_plans > 0`;
      expect(await value(client, kept)).toBe(4);
    });
  });

  test('passes over what was purged', async () => {
    await withActors(database, async (client) => {
      await writeOldMonths(client, 3);
      await sealAll(client, 3);
      await deliverAll(client, 'stdout');
      await retain(client, '10 months');
      await sealAll(client);
      for (const query of [{}, { environment: 'production' }, { limit: 3 }]) {
        const { seqs } = await read(client, query, 11);
        expect(seqs.slice(0, 3)).toEqual([7, 8, 9]);
      }
      const backwards = await read(client, { order: 'desc', until: 9 }, 11);
      expect(backwards.seqs).toEqual([9, 8, 7]);
    });
  });
});
