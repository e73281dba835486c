import pg from 'pg';
import { expect, onTestFinished, test } from 'vitest';
import { value } from '../support/actors.ts';
import { runAudit } from '../support/chaos/command.ts';
import { byForm, isFull } from '../support/chaos/form.ts';
import { startLoad } from '../support/chaos/load.ts';
import { makeRandom, newSeed } from '../support/chaos/random.ts';
import { startChaosServer } from '../support/chaos/server.ts';
import { openSite } from '../support/chaos/site.ts';
import { withClient } from '../support/database.ts';
import type { TestDatabase } from '../support/database.ts';
import { useFreshDatabase } from '../support/worker.ts';

const random = makeRandom(newSeed());

/** A way to break the trail, as an administrator's SQL, and to mend it. */
interface Breakage {
  readonly break: string;
  readonly mend: string;
  /** Operations fail meanwhile, the change and its event together. */
  readonly fails?: true;
}

const rename = (table: string) => ({
  break: `alter table audit.${table} rename to ${table}_gone`,
  mend: `alter table audit.${table}_gone rename to ${table}`,
});

const BREAKAGES: Record<string, Breakage> = {
  'the table of events and that of dead letters are missing': {
    break: `${rename('events').break}; ${rename('dead_letters').break}`,
    mend: `${rename('events').mend}; ${rename('dead_letters').mend}`,
  },
  'the queue is missing': rename('queue'),
  'the trail is too slow for statement_timeout': {
    break: `
      create function public.chaos_slow() returns trigger language plpgsql as $$
      begin
        if session_user = 'halyard_authenticator' then perform pg_sleep(2); end if;
        return new;
      end $$;
      create trigger _300_slow before insert on audit.events for each row execute function public.chaos_slow()`,
    mend: 'drop function public.chaos_slow() cascade',
    fails: true,
  },
  'the table of events is missing': rename('events'),
  'the trail refuses what is about schedules': {
    break: `alter table audit.events add constraint chaos check (event_type !~ 'schedule') not valid`,
    mend: 'alter table audit.events drop constraint chaos',
  },
  'payloads are too long for the trail': {
    break: 'alter table audit.events add constraint chaos check (length(payload) < 100) not valid',
    mend: 'alter table audit.events drop constraint chaos',
  },
  'a function that makes events is missing': {
    break: 'alter function app_private.write_events(app_private.audit_event[]) rename to gone',
    mend: 'alter function app_private.gone(app_private.audit_event[]) rename to write_events',
  },
  'somebody has locked the trail for longer than lock_timeout': {
    break: 'begin; lock table audit.events in access exclusive mode',
    mend: 'commit',
  },
};

/** Times that a test can wait for. */
async function shortenTimeouts(database: TestDatabase): Promise<void> {
  await withClient(database.rootUrl, async (client) => {
    const name = client.escapeIdentifier(database.name);
    for (const role of ['halyard_authenticator', 'halyard_worker'])
      await client.query(`alter role ${role} in database ${name} set lock_timeout = '100ms'`);
    await client.query(
      `alter role halyard_authenticator in database ${name} set statement_timeout = '1s'`,
    );
  });
}

/** Past all triggers but those that are enabled always. */
async function insertAsReplica(client: pg.ClientBase): Promise<void> {
  await client.query(`set session_replication_role = replica`);
  await client.query(`insert into app_public.feature_flags (flag_key) values (gen_random_uuid())`);
  await client.query(`reset session_replication_role`);
}

/** Events that were missing: the trail really was broken. */
async function countReconciled(database: TestDatabase): Promise<number> {
  return withClient(database.rootUrl, (client) =>
    value<number>(client, 'select count(*)::int from audit.events where reconciled'),
  );
}

test('however the trail is broken, operations go on, and all of it is there in the end', async () => {
  const database = await useFreshDatabase();
  await shortenTimeouts(database);
  const site = await openSite(database);
  await Promise.all([site.startWorker(), site.startApi()]);
  const chosen = Object.entries(BREAKAGES).slice(0, byForm({ short: 2, full: 99 }));
  for (const [name, breakage] of chosen) {
    await withClient(database.rootUrl, async (client) => {
      const load = startLoad(site, random);
      const count = breakage.fails
        ? () => site.journal.unknown.length
        : () => site.journal.promises.length;
      await client.query(breakage.break);
      const before = count();
      await expect.poll(count, { timeout: 20_000, message: name }).toBeGreaterThan(before + 10);
      await client.query(breakage.mend);
      await load.stop();
      await insertAsReplica(client);
    });
    const { status, stderr } = await runAudit(database, 'reconcile', '--full');
    // The roles' time limits are shorter here, which the command names.
    const said = stderr.split('\n').filter((line) => !/^$|"setting":"lock_timeout"/.test(line));
    expect({ name, status, said }).toEqual({ name, status: 0, said: [] });
    await site.check().catch((error: unknown) => {
      throw new Error(`After: ${name}.`, { cause: error });
    });
  }
  expect(await countReconciled(database)).toBeGreaterThan(10);
});

/** A listener that never ends its transaction, and noise until no commit that notifies goes through. */
async function fillNotifyQueue(database: TestDatabase): Promise<void> {
  const stuck = new pg.Client({ connectionString: database.ownerUrl });
  stuck.on('error', () => undefined);
  await stuck.connect();
  onTestFinished(() => stuck.end());
  await stuck.query('listen halyard_audit');
  await stuck.query('begin');
  await stuck.query('select 1');
  const noise = () =>
    withClient(database.ownerUrl, (client) =>
      client.query(
        `select pg_notify('noise', n || repeat(' ', 7900)) from generate_series(1, 10) as n`,
      ),
    );
  let code: string | undefined;
  while (code !== '54000')
    await noise().catch((error: unknown) => {
      if (!(error instanceof pg.DatabaseError)) throw error;
      code = error.code;
    });
}

// A server of its own, whose queue is small enough to fill.
test.runIf(isFull())(
  'a notification queue that is full stops neither operations nor delivery',
  async () => {
    const { database } = await startChaosServer({ max_notify_queue_pages: '64' });
    const site = await openSite(database);
    await Promise.all([site.startWorker(), site.startApi()]);
    await fillNotifyQueue(database);
    const load = startLoad(site, random);
    await expect.poll(() => load.promised(), { timeout: 20_000 }).toBeGreaterThan(50);
    await load.stop();
    expect(site.journal.unknown).toEqual([]);
    await site.check(90_000);
  },
);
