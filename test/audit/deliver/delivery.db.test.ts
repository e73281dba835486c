import type pg from 'pg';
import { describe, expect, test } from 'vitest';
import { value, withActors } from '../../support/actors.ts';
import { cloneDatabase, useDatabase, withClient } from '../../support/database.ts';
import { insertFlag, one } from '../../support/factory.ts';
import { queuedEvents } from '../../support/trail.ts';

const database = useDatabase();

interface Delivery {
  readonly seq: string;
  readonly event_id: string;
  readonly occurred_at: Date;
  readonly message: string;
}

const NOTHING: Delivery = { seq: '', event_id: '', occurred_at: new Date(0), message: '{}' };

async function undelivered(
  client: pg.ClientBase,
  destination: string,
  batch = 1000,
): Promise<Delivery[]> {
  const { rows } = await client.query<Delivery>(
    'select * from app_private.undelivered_audit_events($1, $2)',
    [destination, batch],
  );
  return rows;
}

const sequence = (client: pg.ClientBase, batch = 1000) =>
  value<number>(client, 'select count(queue_id)::int from app_private.seal_batch($1, 0)', [batch]);
const advance = (client: pg.ClientBase, to: string, from: number, until: number) =>
  value<boolean>(client, 'select app_private.advance_audit_cursor($1, $2, $3)', [to, from, until]);
const cursor = (client: pg.ClientBase, destination: string) =>
  value<string>(client, 'select app_private.audit_cursor($1)', [destination]);

describe('the sequencer', () => {
  test('numbers what is queued from 1, in batches, each event once', async () => {
    await withActors(database, async (client) => {
      for (let i = 0; i < 5; i++) await insertFlag(client);
      const ids = (await queuedEvents(client)).map(({ id }) => id);
      expect(await sequence(client, 2)).toBe(2);
      expect(await sequence(client, 2)).toBe(2);
      expect(await sequence(client, 2)).toBe(1);
      expect(await sequence(client, 2)).toBe(0);
      const { rows } = await client.query<{ seq: string; event_id: string }>(
        'select seq, event_id from audit.ledger order by seq',
      );
      expect(rows).toEqual(ids.map((event_id, i) => ({ seq: String(i + 1), event_id })));
    });
  });

  test('leaves at once when another is at work', async () => {
    const own = await cloneDatabase();
    try {
      await withClient(own.workerUrl, async (first) => {
        await withClient(own.ownerUrl, (client) => insertFlag(client));
        await first.query('begin');
        expect(await sequence(first)).toBe(1);
        await withClient(own.workerUrl, async (second) => {
          await second.query(`set lock_timeout = '1s'`);
          expect(await sequence(second)).toBe(0);
          await first.query('rollback');
          expect(await sequence(second)).toBe(1);
        });
      });
    } finally {
      await own.drop();
    }
  });

  test('is gapless and skips nothing under 8 writers, some late, some rolled back, and 3 sequencers', async () => {
    const own = await cloneDatabase();
    try {
      const { written, ledger } = await writeAndSequence(own.ownerUrl, own.workerUrl);
      expect(ledger.map(({ seq }) => seq)).toEqual(ledger.map((_, i) => String(i + 1)));
      expect(new Set(ledger.map(({ event_id }) => event_id)).size).toBe(ledger.length);
      expect(ledger).toHaveLength(written);
      expect(written).toBeGreaterThan(8 * 20);
    } finally {
      await own.drop();
    }
  });
});

/** Writers that commit in another order than they write, and sequencers beside them until all is numbered. */
async function writeAndSequence(ownerUrl: string, workerUrl: string) {
  let writing = true;
  const writer = (nr: number) =>
    withClient(ownerUrl, async (client) => {
      for (let i = 0; i < 30; i++) {
        await client.query('begin');
        await insertFlag(client, { flag_key: `writer-${nr}-${i}` });
        await client.query('select pg_sleep(random() * 0.004)');
        await client.query((i + nr) % 5 === 0 ? 'rollback' : 'commit');
      }
    });
  const sequencer = () =>
    withClient(workerUrl, async (client) => {
      let batch = 1;
      do {
        await sequence(client, batch);
        batch = (batch % 7) + 1;
      } while (writing);
    });
  const sequencers = [sequencer(), sequencer(), sequencer()];
  await Promise.all(Array.from({ length: 8 }, (_, nr) => writer(nr)));
  writing = false;
  await Promise.all(sequencers);
  return withClient(ownerUrl, async (client) => {
    await sequence(client);
    const { rows } = await client.query<{ seq: string; event_id: string }>(
      'select seq, event_id from audit.ledger order by seq',
    );
    const written = await value<number>(client, 'select count(*)::int from audit.events');
    return { written, ledger: rows };
  });
}

describe('a destination’s cursor', () => {
  test('hands out what isn’t confirmed, again and again, in order', async () => {
    await withActors(database, async (client) => {
      for (let i = 0; i < 4; i++) await insertFlag(client);
      await sequence(client);
      const seqs = async (batch?: number) =>
        (await undelivered(client, 'copy', batch)).map(({ seq }) => seq);
      expect(await seqs(3)).toEqual(['1', '2', '3']);
      expect(await seqs(3)).toEqual(['1', '2', '3']);
      expect(await cursor(client, 'copy')).toBe('0');
      expect(await advance(client, 'copy', 0, 3)).toBe(true);
      expect(await cursor(client, 'copy')).toBe('3');
      // The event, and behind it the seal of all four.
      expect(await seqs(3)).toEqual(['4', '4']);
      expect(await advance(client, 'copy', 3, 4)).toBe(true);
      expect(await seqs()).toEqual([]);
    });
  });

  test('is each destination’s own', async () => {
    await withActors(database, async (client) => {
      await insertFlag(client);
      await sequence(client);
      await advance(client, 'one', 0, 1);
      expect(await undelivered(client, 'one')).toEqual([]);
      expect(await undelivered(client, 'two')).toHaveLength(2);
    });
  });

  test('moves only from where the caller found it, and never back', async () => {
    await withActors(database, async (client) => {
      for (let i = 0; i < 5; i++) await insertFlag(client);
      await sequence(client);
      expect(await advance(client, 'copy', 0, 3)).toBe(true);
      expect(await advance(client, 'copy', 0, 2)).toBe(false);
      expect(await advance(client, 'copy', 3, 1)).toBe(false);
      expect(await advance(client, 'copy', 4, 5)).toBe(false);
      expect(await cursor(client, 'copy')).toBe('3');
    });
  });

  test('hands out nothing that isn’t numbered', async () => {
    await withActors(database, async (client) => {
      await insertFlag(client);
      expect(await undelivered(client, 'copy')).toEqual([]);
    });
  });
});

describe('the message', () => {
  test('is the event’s payload with its seq put in', async () => {
    await withActors(database, async (client) => {
      await insertFlag(client, { flag_key: 'search' });
      const event = one(await queuedEvents(client));
      await sequence(client);
      const [{ message, event_id } = NOTHING] = await undelivered(client, 'copy');
      expect(event_id).toBe(event.id);
      expect(message.replace(', "seq": 1', '')).toBe(event.payload);
      expect(Object.keys(JSON.parse(message) as object)).toEqual([
        'eventType',
        'timestamp',
        'eventId',
        'seq',
        'level',
        'environment',
        'requestId',
        'actorKind',
        'databaseUser',
        'applicationName',
        'flagId',
        'revision',
        'metadata',
      ]);
    });
  });

  test('of a seal comes behind its last event, and tells its head', async () => {
    await withActors(database, async (client) => {
      for (let i = 0; i < 3; i++) await insertFlag(client);
      await sequence(client, 2);
      await sequence(client, 2);
      const { rows } = await client.query<{ trail: string; id: string; head: string }>(
        `select s.trail, i.id, encode(head, 'hex') as head from audit.seals s cross join audit.incarnations i
         where seal_no > 0 order by seal_no`,
      );
      const messages = (await undelivered(client, 'copy')).map(
        ({ message }) => JSON.parse(message) as { eventType: string; metadata: object },
      );
      expect(messages.map(({ eventType }) => eventType)).toEqual([
        ...['feature_flag.created', 'feature_flag.created', 'audit.sealed'],
        ...['feature_flag.created', 'audit.sealed'],
      ]);
      expect(messages[2]?.metadata).toMatchObject({ seal: 1, firstSeq: 1, lastSeq: 2 });
      expect(messages[4]?.metadata).toMatchObject({
        seal: 2,
        firstSeq: 3,
        lastSeq: 3,
        trail: rows[0]?.trail,
        incarnation: rows[0]?.id,
        previousHead: rows[0]?.head,
        head: rows[1]?.head,
      });
    });
  });

  test('of an event whose row is gone is a stub, which the cursor can pass', async () => {
    await withActors(database, async (client) => {
      await insertFlag(client);
      const { id } = one(await queuedEvents(client));
      await sequence(client);
      await client.query('drop table audit.events cascade');
      await client.query(
        'create table audit.events (id uuid, occurred_at timestamptz, event_type text, payload text)',
      );
      const [{ message } = NOTHING] = await undelivered(client, 'copy');
      expect(JSON.parse(message)).toEqual({ eventType: 'audit.missing', eventId: id, seq: 1 });
    });
  });
});

describe('the hint', () => {
  const payloads = async (work: (client: pg.ClientBase) => Promise<unknown>) => {
    const own = await cloneDatabase();
    try {
      return await withClient(own.ownerUrl, async (client) => {
        const received: Record<string, unknown>[] = [];
        client.on('notification', ({ payload }) =>
          received.push(JSON.parse(payload ?? '') as Record<string, unknown>),
        );
        await client.query('listen halyard_audit');
        await work(client);
        await client.query('select 1');
        return received;
      });
    } finally {
      await own.drop();
    }
  };

  test('is one a statement, with ids only', async () => {
    const received = await payloads(async (client) => {
      const flag = await insertFlag(client);
      await client.query(
        `insert into app_public.feature_flag_schedules (flag_id, scheduled_at, updates)
         select $1, now() + interval '1 hour', '{"enabled": true}' from generate_series(1, 3)`,
        [flag.id],
      );
      await client.query('update app_public.feature_flags set enabled = enabled');
    });
    expect(received).toHaveLength(2);
    expect(received[0]).toEqual({
      events: [expect.any(String)],
      schedules: null,
      plans: null,
      truncated: false,
    });
    expect(received[1]).toMatchObject({ truncated: false });
    expect(received[1]?.events).toHaveLength(3);
    expect(received[1]?.schedules).toHaveLength(3);
  });

  test('of a thousand events is cut to what a payload holds', async () => {
    const received = await payloads(async (client) => {
      const flag = await insertFlag(client);
      await client.query(
        `insert into app_public.feature_flag_schedules (flag_id, scheduled_at, updates)
         select $1, now() + interval '1 hour', '{"enabled": true}' from generate_series(1, 1000)`,
        [flag.id],
      );
    });
    expect(received[1]).toMatchObject({ truncated: true });
    expect(received[1]?.events).toHaveLength(60);
    expect(received[1]?.schedules).toHaveLength(60);
  });
});
