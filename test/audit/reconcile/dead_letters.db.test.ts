import type pg from 'pg';
import { describe, expect, test } from 'vitest';
import { value } from '../../support/actors.ts';
import { withClient } from '../../support/database.ts';
import {
  asAdmin,
  problemsOf,
  reconcileAs,
  rerunFixtures,
  runLifecycle,
  lifecycleEvents,
  withOwner,
} from '../../support/reconcile.ts';
import { deadLetters } from '../../support/trail.ts';
import { useFreshDatabase } from '../../support/worker.ts';

interface Breakage {
  readonly breakIt: readonly string[];
  readonly mendIt: readonly string[];
  /** Fixtures to run again. */
  readonly mendFunctions?: boolean;
}

const THIS_MONTH = `to_char(now() at time zone 'UTC', '"audit.events_"YYYY_MM')`;
const MAKE_EVENT_FAIL = `
  create or replace function app_private.make_event(
    id uuid, at timestamptz, event_type text, flag_id uuid, flag_key text, environment text, schedule_id uuid,
    revision bigint, details jsonb
  ) returns app_private.audit_event language plpgsql volatile set search_path to pg_catalog, pg_temp
  as $$ begin raise exception 'broken'; end $$`;

const BREAKAGES: Record<string, Breakage> = {
  'the trail is renamed': {
    breakIt: ['alter table audit.events rename to events_old'],
    mendIt: ['alter table audit.events_old rename to events'],
  },
  'the queue is renamed': {
    breakIt: ['alter table audit.queue rename to queue_old'],
    mendIt: ['alter table audit.queue_old rename to queue'],
  },
  'the incarnations are renamed': {
    breakIt: ['alter table audit.incarnations rename to incarnations_old'],
    mendIt: ['alter table audit.incarnations_old rename to incarnations'],
    // The letters hold rows here, too.
    mendFunctions: true,
  },
  'a check refuses the events': {
    breakIt: [
      `alter table audit.events add constraint no_story check (flag_key !~ 'story') not valid`,
    ],
    mendIt: ['alter table audit.events drop constraint no_story'],
  },
  'a check refuses a text that is too long': {
    breakIt: [
      `alter table audit.events add constraint short check (octet_length(payload) < 300) not valid`,
    ],
    mendIt: ['alter table audit.events drop constraint short'],
  },
  'the grant is revoked': {
    breakIt: ['revoke insert on audit.events from halyard_owner'],
    mendIt: ['grant insert on audit.events to halyard_owner'],
  },
  'the month’s partition is missing': {
    breakIt: [
      `do $$ begin execute 'alter table audit.events detach partition ' || ${THIS_MONTH};
         execute format('alter table %s rename to kept', ${THIS_MONTH}); end $$`,
    ],
    // The reconciler makes the partition.
    mendIt: [],
  },
  'the functions that make events fail': {
    breakIt: [MAKE_EVENT_FAIL],
    mendIt: [],
    mendFunctions: true,
  },
  'a function that makes events is gone': {
    breakIt: [
      'drop function app_private.make_event(uuid, timestamptz, text, uuid, text, text, uuid, bigint, jsonb) cascade',
    ],
    mendIt: [],
    mendFunctions: true,
  },
};

async function runAll(client: pg.ClientBase, statements: readonly string[]): Promise<void> {
  for (const statement of statements) await client.query(statement);
}

function withoutFlagState(text: Record<string, unknown>): Record<string, unknown> {
  const metadata = Object.entries(text.metadata as object).filter(([key]) => key !== 'flagState');
  return { ...text, metadata: Object.fromEntries(metadata) };
}

describe('what is broken is mended, and the dead letters are brought into the trail', () => {
  test.for(Object.entries(BREAKAGES))(
    '%s',
    async ([, { breakIt, mendIt, mendFunctions = false }]) => {
      const database = await useFreshDatabase();
      await withOwner(database, async (client) => {
        await runAll(client, breakIt);
        await runLifecycle(client, 'story-broken');
        const letters = await deadLetters(client);
        expect(letters.length).toBeGreaterThan(0);
        await runAll(client, mendIt);
        if (mendFunctions) await rerunFixtures(client);
        await runLifecycle(client, 'story-sound');

        const done = await reconcileAs(database, 'dead_letters');
        expect(done).toMatchObject({ fromRows: 0, refused: 0 });
        expect(done.fromLetters).toBeGreaterThan(0);
        expect(await deadLetters(client)).toEqual([]);
        expect(await problemsOf(client)).toEqual([]);

        const sound = await lifecycleEvents(client, 'story-sound');
        const broken = await lifecycleEvents(client, 'story-broken');
        const replayed = [...broken, ...sound].filter(({ reconciled }) => reconciled);
        expect(replayed).toHaveLength(done.fromLetters);
        // Rows don't hold the flag's state at the time.
        const texts = sound.map(({ text }) => (mendFunctions ? withoutFlagState(text) : text));
        expect(broken.map(({ text }) => text)).toEqual(texts);

        expect(await reconcileAs(database, 'full')).toMatchObject({
          fromLetters: 0,
          fromRows: 0,
        });
        expect(await problemsOf(client)).toEqual([]);
      });
    },
  );
});

test('an environment whose event couldn’t be made has it by the letter, with who made it and why', async () => {
  const database = await useFreshDatabase();
  await withOwner(database, async (client) => {
    await client.query(MAKE_EVENT_FAIL);
    await asAdmin(client, `select app_public.create_environment('lab')`, [], 'for the trial');
    await rerunFixtures(client);
    expect(await reconcileAs(database, 'dead_letters')).toMatchObject({ refused: 0 });
    const event = `select to_jsonb(e) from audit.events e where event_type = 'environment.created' and environment = 'lab'`;
    expect(await value(client, event)).toMatchObject({
      ...{ admin_user_id: 'alice', reconciled: true },
      metadata: { name: 'lab', after: { createdBy: 'alice' }, reason: 'for the trial' },
    });
  });
});

test('somebody holds a lock on the trail for longer than lock_timeout', async () => {
  const database = await useFreshDatabase();
  await withOwner(database, async (client) => {
    await withClient(database.ownerUrl, async (holder) => {
      await holder.query('begin');
      await holder.query('lock table audit.events in access exclusive mode');
      await client.query(`set lock_timeout = '20ms'`);
      await runLifecycle(client, 'story');
      await holder.query('rollback');
    });
    expect(await reconcileAs(database, 'dead_letters')).toMatchObject({ fromRows: 0, refused: 0 });
    expect(await deadLetters(client)).toEqual([]);
    expect(await problemsOf(client)).toEqual([]);
  });
});

test('while the trail is still broken, letters stay and nothing else is harmed', async () => {
  const database = await useFreshDatabase();
  await withOwner(database, async (client) => {
    await client.query(`alter table audit.events add constraint no check (false) not valid`);
    await runLifecycle(client, 'story');
    const letters = await deadLetters(client);
    expect(await reconcileAs(database, 'dead_letters')).toMatchObject({
      fromLetters: 0,
      refused: letters.length,
    });
    expect(await deadLetters(client)).toEqual(letters);
  });
});

test('a letter that can’t be replayed stays alone', async () => {
  const database = await useFreshDatabase();
  await withOwner(database, async (client) => {
    await client.query(
      `insert into audit.dead_letters (content, error_code, error_message) values
       ('{"note": "typed by hand"}', 'XX000', 'no'), ('{"event_id": "x"}', 'ZF012', 'a repeated id')`,
    );
    await client.query('alter table audit.events rename to events_old');
    await runLifecycle(client, 'story');
    await client.query('alter table audit.events_old rename to events');
    expect(await reconcileAs(database, 'dead_letters')).toMatchObject({ refused: 1 });
    expect((await deadLetters(client)).map(({ error_code }) => error_code)).toEqual([
      'XX000',
      'ZF012',
    ]);
    expect(await problemsOf(client)).toEqual([]);
  });
});

test('a letter whose events the trail has already is only deleted', async () => {
  const database = await useFreshDatabase();
  await withOwner(database, async (client) => {
    await client.query('alter table audit.events rename to events_old');
    await runLifecycle(client, 'story');
    await client.query('alter table audit.events_old rename to events');
    await client.query('create table app_private.kept as table audit.dead_letters');
    await reconcileAs(database, 'dead_letters');
    const events = await value(client, 'select count(*) from audit.events');
    const again = `insert into audit.dead_letters (content, error_code, error_message)
      select content, error_code, error_message from app_private.kept`;
    const nothing = { fromLetters: 0, refused: 0 };
    await client.query(again);
    expect(await reconcileAs(database, 'dead_letters'), 'still queued').toMatchObject(nothing);
    await problemsOf(client);
    await client.query(again);
    expect(await reconcileAs(database, 'dead_letters'), 'numbered').toMatchObject(nothing);
    expect(await deadLetters(client)).toEqual([]);
    expect(await value(client, 'select count(*) from audit.events')).toBe(events);
    expect(await problemsOf(client)).toEqual([]);
    await client.query(again);
    await client.query(`do $$ begin execute 'drop table ' || ${THIS_MONTH}; end $$`);
    expect(await reconcileAs(database, 'dead_letters'), 'purged').toMatchObject(nothing);
    expect(await deadLetters(client)).toEqual([]);
  });
});
