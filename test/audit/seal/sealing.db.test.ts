import pg from 'pg';
import { expect, test } from 'vitest';
import { leafOf } from '../../../src/audit/seals/merkle.ts';
import { headOf } from '../../../src/audit/seals/seal.ts';
import { merklePath, merkleRoot } from '../../support/merkle.ts';
import { actAsOwner, value, withActors } from '../../support/actors.ts';
import { cloneDatabase, useDatabase, withClient, withRollback } from '../../support/database.ts';
import { one } from '../../support/factory.ts';
import { sealAll, sealFlags, tamper } from '../../support/sealed_trail.ts';
import { deadLetters } from '../../support/trail.ts';

const database = useDatabase();
const NUMBER = 'select count(queue_id)::int as sealed from app_private.seal_batch($1, 0)';

const leaves = (count: number) => Array.from({ length: count }, (_, i) => leafOf(`leaf ${i}`));

test('the database computes the roots that RFC 6962 defines, of 0 to 1,000 leaves', async () => {
  await withRollback(database, async (client) => {
    const all = leaves(1000);
    const { rows } = await client.query<{ root: Buffer }>(
      `select app_private.merkle_root(($1::bytea[])[1:n]) as root from generate_series(0, 1000) as n order by n`,
      [all],
    );
    const roots = rows.map(({ root }) => root.toString('hex'));
    expect(roots).toEqual(
      [...all, null].map((_, size) => merkleRoot(all.slice(0, size)).toString('hex')),
    );
  });
});

test('the database computes the paths that RFC 6962 defines, for every leaf of 1 to 40', async () => {
  await withRollback(database, async (client) => {
    const all = leaves(40);
    const { rows } = await client.query<{ size: number; index: number; path: Buffer[] }>(
      `select n as size, i as index, app_private.merkle_path(($1::bytea[])[1:n], i) as path
       from generate_series(1, 40) as n cross join lateral generate_series(0, n - 1) as i`,
      [all],
    );
    expect(rows).toHaveLength(820);
    for (const { size, index, path } of rows)
      expect(path, `${index} of ${size}`).toEqual(merklePath(all.slice(0, size), index));
  });
});

test('the ledger copies what exports filter by, and nothing of an event that was gone', async () => {
  await withActors(database, async (client) => {
    await client.query(
      `insert into app_public.feature_flags (flag_key, environment) values ('kept', 'staging'), ('gone', 'staging')`,
    );
    await tamper(client, `delete from audit.events where flag_key = 'gone'`);
    await sealAll(client);
    const { rows } = await client.query(
      'select event_type, flag_key, environment from audit.ledger order by seq',
    );
    expect(rows).toEqual([
      { event_type: 'feature_flag.created', flag_key: 'kept', environment: 'staging' },
      { event_type: null, flag_key: null, environment: null },
    ]);
  });
});

test('a seal is what another program computes from the shipped messages', async () => {
  await withRollback(database, async (client) => {
    await sealFlags(client, 23);
    const { rows: seals } = await client.query<{
      no: number;
      trail: string;
      incarnation: string;
      first: number;
      last: number;
      root: string;
      previous: string;
      head: string;
    }>(
      `select seal_no::int as no, trail, incarnation, first_seq::int as first, last_seq::int as last, encode(root, 'hex') as root,
         encode(previous_head, 'hex') as previous, encode(head, 'hex') as head
       from audit.seals order by seal_no`,
    );
    const messages = await shipped(client);
    expect(seals.map(({ last }) => last)).toEqual([0, 10, 20, 23]);
    let previousHead = seals[0]?.previous ?? '';
    for (const {
      no: seal,
      trail,
      incarnation,
      first: firstSeq,
      last: lastSeq,
      ...stored
    } of seals) {
      const sealed = messages.slice(firstSeq - 1, lastSeq).map(leafOf);
      const root = merkleRoot(sealed).toString('hex');
      const head = headOf({ seal, trail, incarnation, firstSeq, lastSeq, root, previousHead });
      expect(stored).toEqual({ root, previous: previousHead, head });
      previousHead = head;
    }
  });
});

/** The events' messages as a destination gets them, seals left out. */
async function shipped(client: Parameters<typeof sealAll>[0]): Promise<string[]> {
  const { rows } = await client.query<{ message: string }>(
    `select message from app_private.undelivered_audit_events('test', 100000)`,
  );
  return rows.map(({ message }) => message).filter((text) => !text.includes('"audit.sealed"'));
}

test('no seal covers more than 1,000 events, however many are asked for', async () => {
  await withRollback(database, async (client) => {
    await client.query(
      `insert into app_public.feature_flags (flag_key) select 'many-' || n from generate_series(1, 1001) as n`,
    );
    expect(await value(client, NUMBER, [5000])).toBe(1000);
    expect(await value(client, NUMBER, [5000])).toBe(1);
    expect(await value(client, NUMBER, [5000])).toBe(0);
  });
});

test('writers and sequencers at once: every event is numbered once, without a gap, and the seals verify', async () => {
  const own = await cloneDatabase();
  let writing = true;
  try {
    const write = (nr: number) =>
      withClient(own.ownerUrl, async (client) => {
        for (let i = 0; i < 40; i++)
          await client.query('insert into app_public.feature_flags (flag_key) values ($1)', [
            `w${nr}-${i}`,
          ]);
      });
    const sequence = () =>
      withClient(own.workerUrl, async (client) => {
        while (writing) await client.query(NUMBER, [7]);
      });
    const sequencers = [sequence(), sequence()];
    await Promise.all(Array.from({ length: 6 }, (_, nr) => write(nr)));
    writing = false;
    await Promise.all(sequencers);
    await withClient(own.rootUrl, async (client) => {
      await sealAll(client, 7);
      const { rows } = await client.query<{ seq: number; events: number }>(
        'select l.seq::int, (select count(*)::int from audit.events) as events from audit.ledger l order by 1',
      );
      expect(rows.map(({ seq }) => seq)).toEqual(Array.from({ length: 240 }, (_, i) => i + 1));
      expect(rows[0]?.events).toBe(240);
      expect(
        await value(client, "select count(*)::int from audit.verify() where status <> 'ok'"),
      ).toBe(0);
    });
  } finally {
    writing = false;
    await own.drop();
  }
});

test('a session that dies in mid-seal leaves nothing behind, and the next one seals it all', async () => {
  const own = await cloneDatabase();
  try {
    await withClient(own.ownerUrl, (client) =>
      client.query("insert into app_public.feature_flags (flag_key) values ('a'), ('b')"),
    );
    const dying = await openClient(own.workerUrl);
    await dying.query('begin');
    expect(await value(dying, NUMBER, [1000])).toBe(2);
    const pid = await value<number>(dying, 'select pg_backend_pid()');
    await withClient(own.rootUrl, async (client) => {
      const { rows } = await client.query('select seq from app_private.seal_batch(1000, 0)');
      expect(rows, 'one sequencer at a time').toEqual([{ seq: null }]);
      await client.query('select pg_terminate_backend($1, 5000)', [pid]);
      const left = 'select count(*)::int from audit.queue';
      expect(await value(client, left)).toBe(2);
      expect(await value(client, 'select count(*)::int from audit.seals')).toBe(1);
      expect(await value(client, NUMBER, [1000])).toBe(2);
      expect(await value(client, left)).toBe(0);
    });
  } finally {
    await own.drop();
  }
});

async function openClient(url: string) {
  const client = new pg.Client({ connectionString: url });
  client.on('error', () => undefined);
  await client.connect();
  return client;
}

test('an event that is queued twice by hand is numbered once, and the other goes to the dead letters', async () => {
  await withActors(database, async (client) => {
    await client.query("insert into app_public.feature_flags (flag_key) values ('once'), ('more')");
    const again = `insert into audit.queue (event_id, occurred_at)
      select event_id, occurred_at from audit.queue order by id limit 1`;
    await client.query(again);
    expect(await value(client, NUMBER, [1000])).toBe(2);
    await client.query(`insert into audit.queue (event_id, occurred_at)
      select event_id, occurred_at from audit.ledger order by seq limit 1`);
    expect(await value(client, NUMBER, [1000])).toBe(0);
    const letters = await deadLetters(client);
    expect(letters.map(({ error_code }) => error_code)).toEqual(['ZF012', 'ZF012']);
    await client.query("insert into app_public.feature_flags (flag_key) values ('after')");
    expect(await value(client, NUMBER, [1000])).toBe(1);
  });
});

test.for(['not JSON', '', '{}', '"text"', '{"seq": 1'])(
  'an event put in by hand with the text %j stops neither the sequencer, nor delivery, nor verification',
  async (payload) => {
    await withActors(database, async (client) => {
      await actAsOwner(client);
      await client.query(
        `with event as (
           insert into audit.events (id, occurred_at, event_type, level, actor_kind, database_user, application_name, metadata, payload)
           values (gen_random_uuid(), now(), 'audit.purged', 'info', 'database', '', '', '{}', $1)
           returning id, occurred_at
         )
         insert into audit.queue (event_id, occurred_at) select id, occurred_at from event`,
        [payload],
      );
      expect(await value(client, NUMBER, [1000])).toBe(1);
      expect(await shipped(client)).toHaveLength(1);
      await client.query('set local role halyard_auditor');
      const { rows } = await client.query<{ status: string; detail: string }>(
        'select status, detail from audit.verify()',
      );
      expect(one(rows).status).toBe('column_differs');
    });
  },
);
