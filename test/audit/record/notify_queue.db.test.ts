import pg from 'pg';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  startEmbeddedPostgres,
  type EmbeddedPostgres,
} from '../../../src/postgres/embedded/postgres.ts';
import { value } from '../../support/actors.ts';
import { withClient } from '../../support/database.ts';
import { insertFlag, one } from '../../support/factory.ts';
import { loginsTo, makeMigrated } from '../../support/migrated.ts';
import { makeDataDir, removeDataDir } from '../../support/postgres_server.ts';
import { queuedEvents } from '../../support/trail.ts';

// A cluster of its own, because a full queue stops every database of a server, and because only PostgreSQL 17 and later
// can make the queue small enough to fill.
let server: EmbeddedPostgres;
let dataDir: string;
let ownerUrl: string;
let stuck: pg.Client;

beforeAll(async () => {
  dataDir = await makeDataDir();
  const log = pino({ level: 'silent' });
  server = await startEmbeddedPostgres({
    dataDir,
    log,
    settings: { fsync: 'off', synchronous_commit: 'off', max_notify_queue_pages: '64' },
  });
  const logins = loginsTo(server.superuserUrl, 'test', 'halyard');
  await makeMigrated(server.superuserUrl, logins);
  ownerUrl = logins.ownerUrl;

  // A listener that never ends its transaction: nothing that comes after it can leave the queue.
  stuck = new pg.Client({ connectionString: ownerUrl });
  await stuck.connect();
  await stuck.query('listen halyard_audit');
  await stuck.query('begin');
  await stuck.query('select 1');
});

afterAll(async () => {
  await stuck.end();
  await server.stop();
  await removeDataDir(dataDir, server.dataDir);
});

/** Notifies until the server refuses. Gives that error's code. */
async function fillQueue(client: pg.Client): Promise<string | undefined> {
  for (let i = 0; i < 1000; i++)
    try {
      await client.query(`select pg_notify('noise', $1)`, [String(i).padStart(7900, ' ')]);
    } catch (error) {
      if (error instanceof pg.DatabaseError) return error.code;
      throw error;
    }
  throw new Error('The queue took a thousand notifications: it is larger than this test thinks.');
}

const usage = 'select pg_notification_queue_usage()';

describe('a listener is stuck', () => {
  test('hints stop at half a queue, and every change and its event are written', async () => {
    await withClient(ownerUrl, async (client) => {
      for (let i = 0; i < 1500; i++)
        await client.query('select app_private.notify_audit($1, $1, $1)', [
          Array(60).fill(`00000000-0000-4000-8000-${String(i).padStart(12, '0')}`),
        ]);
      const before = await value<number>(client, usage);
      expect(before).toBeGreaterThanOrEqual(0.5);
      expect(before).toBeLessThan(0.6);
      await insertFlag(client, { flag_key: 'half' });
      expect(await value<number>(client, usage)).toBe(before);
      expect(one(await queuedEvents(client)).flag_key).toBe('half');
    });
  });

  test('when others have filled the queue, notifying fails and Halyard’s changes don’t', async () => {
    await withClient(ownerUrl, async (client) => {
      expect(await fillQueue(client)).toBe('54000');
      await insertFlag(client, { flag_key: 'full' });
      expect((await queuedEvents(client)).map(({ flag_key }) => flag_key)).toEqual([
        'half',
        'full',
      ]);
      expect(await value(client, 'select count(*)::int from audit.dead_letters')).toBe(0);
    });
  });

  test('without the guard the change itself fails, past every exception block', async () => {
    await withClient(ownerUrl, async (client) => {
      await client.query(
        `create or replace function app_private.notify_audit(event_ids uuid[], schedule_ids uuid[], plan_ids uuid[] default null)
         returns void language plpgsql set search_path to pg_catalog, pg_temp as $$
         begin
           begin
             perform pg_notify('halyard_audit', repeat('x', 7900));
           exception when others then
             null;
           end;
         end $$`,
      );
      await expect(insertFlag(client, { flag_key: 'lost' })).rejects.toMatchObject({
        code: '54000',
      });
    });
  });
});
