import { rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { runAudit } from '../support/chaos/command.ts';
import { byForm } from '../support/chaos/form.ts';
import { openSite } from '../support/chaos/site.ts';
import { cloneDatabase, withClient } from '../support/database.ts';
import type { TestDatabase } from '../support/database.ts';
import { insertDue, useFreshDatabase } from '../support/worker.ts';

interface Answer {
  readonly ok: boolean;
  readonly problems: readonly { readonly status: string }[];
}

/** What `halyard audit verify` names, by itself and against the copy. */
async function verify(
  database: TestDatabase,
  copy: string,
): Promise<{ alone: string[]; anchored: string[] }> {
  const statuses = async (...args: string[]) => {
    const { status, stdout, stderr } = await runAudit(
      database,
      ...['verify', '--no-rows', '--json', ...args],
    );
    const { ok, problems } = JSON.parse(stdout) as Answer;
    expect({ stderr, status }).toEqual({ stderr, status: ok ? 0 : 1 });
    return [...new Set(problems.map((problem) => problem.status))].toSorted();
  };
  return { alone: await statuses(), anchored: await statuses('--anchors', copy) };
}

/** What only an administrator can do: past the triggers that keep the trail append-only. */
async function tamper(database: TestDatabase, statements: readonly string[]): Promise<void> {
  const tables = ['events', 'ledger', 'seals'];
  await withClient(database.rootUrl, async (client) => {
    await client.query('begin');
    for (const table of tables)
      await client.query(`alter table audit.${table} disable trigger user`);
    for (const statement of statements) await client.query(statement);
    for (const table of tables)
      await client.query(`alter table audit.${table} enable trigger user`);
    await client.query('commit');
  });
}

/** A trail of three seals or more, in a database and in a copy outside, with nobody at work on it any more. */
async function makeTrail(): Promise<{ database: TestDatabase; copy: string }> {
  const database = await useFreshDatabase();
  const site = await openSite(database);
  const worker = await site.startWorker();
  for (let i = 0; i < 3; i++) {
    await withClient(database.ownerUrl, (client) =>
      insertDue(client, { count: 5, dueIn: '100 ms' }),
    );
    await site.settle();
  }
  await site.check();
  await worker.end();
  const copy = join(tmpdir(), `halyard-chaos-copy-${database.name}.ndjson`);
  await writeFile(copy, (await site.copy()).lines.map((line) => `${line}\n`).join(''));
  onTestFinished(() => rm(copy));
  return { database, copy };
}

const THE_EVENT = `id = (select event_id from audit.ledger where seq = 3)`;

/** In the columns and in the text, so that they fit each other. */
const FORGE_EVENT = `
  update audit.events
  set application_name = 'nobody', payload = replace(payload, '"halyard test"', '"nobody"')
  where ${THE_EVENT}`;

const FORGE_LEAF = `
  update audit.ledger l
  set leaf = app_private.leaf_hash(app_private.shipped_message(e.payload, l.seq))
  from audit.events e
  where l.seq = 3 and e.id = l.event_id`;

/** Each seal anew over what is there now, and chained to the one before it. */
const FORGE_SEALS = `
  do $$
  declare
    v_seal audit.seals;
    v_previous bytea := (select head from audit.seals where seal_no = 0);
    v_root bytea;
  begin
    for v_seal in select * from audit.seals where seal_no > 0 order by seal_no loop
      v_root := app_private.merkle_root(
        array(select leaf from audit.ledger where seq between v_seal.first_seq and v_seal.last_seq order by seq));
      update audit.seals
      set root = v_root, previous_head = v_previous, head = app_private.seal_head(
        v_previous, v_seal.trail, v_seal.incarnation, v_seal.seal_no, v_seal.first_seq, v_seal.last_seq - v_seal.first_seq + 1, v_root)
      where seal_no = v_seal.seal_no
      returning head into v_previous;
    end loop;
  end $$`;

/** The last seal, all that it seals, and the destination's word that it has got it. */
const CUT_TAIL = [
  `create temporary table cut as select first_seq, last_seq from audit.seals order by seal_no desc limit 1`,
  `delete from audit.events e using audit.ledger l, cut c where l.event_id = e.id and l.seq >= c.first_seq`,
  `delete from audit.ledger l using cut c where l.seq >= c.first_seq`,
  `delete from audit.seals s using cut c where s.last_seq = c.last_seq`,
  `update audit.cursors r set last_seq = c.first_seq - 1 from cut c`,
];

/** By itself a database can't tell what whoever rewrote all of it has taken care of; the copy can. */
const DEEDS: Record<string, { sql: string[]; alone: string[]; copy: string[] }> = {
  'an event is updated': { sql: [FORGE_EVENT], alone: ['event_altered'], copy: [] },
  'an event is deleted': {
    sql: [`delete from audit.events where ${THE_EVENT}`],
    alone: ['event_missing'],
    copy: [],
  },
  'an event is inserted': {
    sql: [
      `insert into audit.events
       select (jsonb_populate_record(e, jsonb_build_object('id', gen_random_uuid()))).* from audit.events e where ${THE_EVENT}`,
    ],
    alone: ['event_unsealed'],
    copy: [],
  },
  'a leaf is edited': {
    sql: [FORGE_EVENT, FORGE_LEAF],
    alone: ['root_differs'],
    copy: ['copy_differs'],
  },
  'the seals are rewritten': {
    sql: [FORGE_EVENT, FORGE_LEAF, FORGE_SEALS],
    alone: [],
    copy: ['copy_differs', 'seal_rewritten'],
  },
  'the tail is cut': { sql: CUT_TAIL, alone: [], copy: ['tail_cut'] },
};

test('whatever is done to the trail by hand, the command line names it', async () => {
  const { database, copy } = await makeTrail();
  expect(await verify(database, copy)).toEqual({ alone: [], anchored: [] });
  // The last ones show in the copy only.
  const deeds = Object.entries(DEEDS).slice(byForm({ short: -2, full: 0 }));
  for (const [deed, { sql, alone, copy: anchored }] of deeds) {
    const clone = await cloneDatabase(database.name);
    onTestFinished(() => clone.drop());
    await tamper(clone, sql);
    const both = [...alone, ...anchored].toSorted();
    expect.soft({ deed, ...(await verify(clone, copy)) }).toEqual({ deed, alone, anchored: both });
  }
});
