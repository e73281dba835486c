import { beforeAll, describe, expect, test } from 'vitest';
import { become } from '../support/roles.ts';
import { linesOf } from '../support/chaos/copies.ts';
import { collectFacts, shippedMessage } from '../support/chaos/facts.ts';
import type { Copy, Facts } from '../support/chaos/facts.ts';
import { findBreaches } from '../support/chaos/invariant.ts';
import type { Rule } from '../support/chaos/invariant.ts';
import { useDatabase, withClient } from '../support/database.ts';
import { insertFlag, insertSchedule } from '../support/factory.ts';
import { reconcileAs, withoutAudit } from '../support/reconcile.ts';

const database = useDatabase();
let whole: Facts;

/** Everything that the invariant looks at, made by the product: changes, schedules applied, failed, cancelled, a row that is gone, lost events. */
async function makeTrail(): Promise<Copy> {
  await withClient(database.rootUrl, async (client) => {
    await client.query('begin');
    await become(client, 'admin', { userId: 'alice', clientRequestId: 'r-1' });
    const flag = await insertFlag(client);
    await client.query('commit');
    await client.query('set role halyard_owner');
    await insertSchedule(client, flag.id, { dueIn: '-1 second' });
    await insertSchedule(client, flag.id, { dueIn: '1 hour' });
    await client.query(`update app_public.feature_flags set rollout_percentage = 7`);
    const gone = await insertFlag(client);
    await client.query('delete from app_public.feature_flags where id = $1', [gone.id]);
    const lost = await withoutAudit(client, () => insertFlag(client));
    await client.query('update app_public.feature_flags set enabled = true where id = $1', [
      lost.id,
    ]);
    const vanished = await insertFlag(client);
    await withoutAudit(client, () =>
      client.query('delete from app_public.feature_flags where id = $1', [vanished.id]),
    );
  });
  expect(await reconcileAs(database, 'full')).toMatchObject({ fromRows: 2 });
  return withClient(database.workerUrl, async (client) => {
    await client.query('select app_private.apply_due()');
    await client.query('select from app_private.seal_batch(4, 0)');
    await client.query('select from app_private.seal_batch(1000, 0)');
    const { rows } = await client.query<{ message: string }>(
      `select message from app_private.undelivered_audit_events('stdout')`,
    );
    return { destination: 'stdout', lines: rows.map(({ message }) => message) };
  });
}

beforeAll(async () => {
  const copy = await makeTrail();
  const created = (await collectFacts(database, [copy], [])).events.find(
    ({ client_request_id }) => client_request_id === 'r-1',
  );
  const promise = { requestId: 'r-1', eventType: 'feature_flag.created', rowId: '' };
  whole = await collectFacts(database, [copy], [{ ...promise, rowId: created?.row_id ?? '' }]);
});

/** Facts of which tests may change anything. */
type Changeable<T> = T extends object ? { -readonly [K in keyof T]: Changeable<T[K]> } : T;

function rulesBrokenBy(change: (facts: Changeable<Facts>) => void): Rule[] {
  const facts = structuredClone(whole) as Changeable<Facts>;
  change(facts);
  return [...new Set(findBreaches(facts as Facts).map(({ rule }) => rule))].toSorted();
}

/** The only copy's lines. */
const linesIn = (facts: Changeable<Facts>) => facts.copies[0]?.lines ?? [];
const eventOf = (facts: Changeable<Facts>, type: string) => {
  const event = facts.events.find(({ event_type }) => event_type === type);
  if (event === undefined) throw new Error(`The trail has no ${type}.`);
  return event;
};

test('a whole trail breaks no rule', () => {
  expect(findBreaches(whole)).toEqual([]);
  expect(whole.events.length).toBeGreaterThanOrEqual(8);
  expect(whole.seals.length).toBe(3);
});

const BREACHES: [string, Rule[], (facts: Changeable<Facts>) => void][] = [
  [
    'an event that was never written',
    ['copy of no event', 'seq not contiguous', 'transition without event'],
    (facts) => {
      const { id } = eventOf(facts, 'flag_schedule.created');
      facts.events = facts.events.filter((event) => event.id !== id);
      facts.ledger = facts.ledger.filter(({ event_id }) => event_id !== id);
    },
  ],
  [
    'an event of a revision that there never was',
    ['event without leaf', 'event without transition'],
    (facts) => {
      const event = eventOf(facts, 'flag_schedule.created');
      facts.events.push({ ...event, id: '00000000-0000-4000-8000-000000000001', revision: 9 });
    },
  ],
  [
    'an event that stands there twice',
    ['event twice', 'promise broken'],
    (facts) => void facts.events.push({ ...eventOf(facts, 'feature_flag.created') }),
  ],
  [
    'a flag that was changed past the trail',
    ['state untold'],
    (facts) => {
      const row = facts.rows.find(({ table }) => table === 'feature_flag');
      if (row?.state) row.state.rolloutPercentage = 55;
    },
  ],
  [
    'a row whose end is not told',
    ['event without transition', 'leaf without event'],
    (facts) => {
      const { id } = eventOf(facts, 'feature_flag.deleted');
      facts.events = facts.events.filter((event) => event.id !== id);
    },
  ],
  [
    'a reconciled event that names another revision than the lost one',
    ['event twice', 'transition without event'],
    (facts) => void (eventOf(facts, 'feature_flag.reconciled').metadata.revisions = [2]),
  ],
  [
    'a reconciled event that names a revision that has an event',
    ['event twice'],
    (facts) => void (eventOf(facts, 'feature_flag.reconciled').metadata.revisions = [1, 2]),
  ],
  [
    'a reconciled event that names a revision that there never was',
    ['event without transition'],
    (facts) => void (eventOf(facts, 'feature_flag.reconciled').metadata.revisions = [1, 3]),
  ],
  [
    'a gap that isn’t behind the last known event',
    ['event without transition'],
    (facts) => void (eventOf(facts, 'audit.gap').metadata.lastRevision = 7),
  ],
  [
    'an event that was never numbered',
    ['copy of no event', 'event without leaf'],
    (facts) => void facts.ledger.pop(),
  ],
  [
    'an event that is numbered twice',
    ['copy differs', 'leaf differs', 'leaf twice'],
    (facts) => {
      const last = facts.ledger.at(-1);
      if (last) facts.ledger.push({ ...last, seq: last.seq + 1 });
    },
  ],
  [
    'a leaf that is not that of the event',
    ['leaf differs'],
    (facts) => {
      const first = facts.ledger[0];
      if (first) first.leaf = '00'.repeat(32);
    },
  ],
  [
    'a number that was left out',
    ['copy differs', 'leaf differs', 'seq not contiguous'],
    (facts) => {
      const last = facts.ledger.at(-1);
      if (last) last.seq += 1;
    },
  ],
  ['events in the queue', ['events still queued'], (facts) => void (facts.queued = 1)],
  ['a dead letter', ['dead letters'], (facts) => void (facts.deadLetters = 1)],
  [
    'a finding of verify',
    ['verify finds fault'],
    (facts) => void facts.problems.push({ status: 'chain_broken', detail: null }),
  ],
  [
    'a schedule that is overdue',
    ['schedule not settled'],
    (facts) => {
      const row = facts.rows.find(({ status }) => status === 'pending');
      if (row) row.overdue = true;
    },
  ],
  [
    'a schedule that failed with attempts left',
    ['schedule not settled'],
    (facts) => {
      const row = facts.rows.find(({ status }) => status === 'pending');
      if (row) row.status = 'failed';
    },
  ],
  [
    'a schedule that was applied twice',
    ['event without leaf', 'event without transition', 'schedule applied more than once'],
    (facts) => {
      const event = eventOf(facts, 'flag_schedule.applied');
      facts.events.push({ ...event, id: '00000000-0000-4000-8000-000000000002' });
    },
  ],
  [
    'a schedule that was applied without saying so',
    ['schedule applied without event'],
    (facts) => {
      const row = facts.rows.find(({ status }) => status === 'pending');
      if (row) row.status = 'applied';
    },
  ],
  [
    'an answer of 2xx without a change',
    ['promise broken'],
    (facts) => {
      const promise = { requestId: 'r-9', eventType: 'flag_schedule.created', rowId: 'x' };
      facts.promises.push(promise);
    },
  ],
  [
    'an event that did not arrive',
    ['copy out of order', 'event not delivered'],
    (facts) => void linesIn(facts).splice(1, 1),
  ],
  [
    'a copy of other bytes',
    ['copy differs'],
    (facts) => {
      const lines = linesIn(facts);
      lines[0] = lines[0]?.replace('{"eventType": ', '{"eventType":') ?? '';
    },
  ],
  [
    'a repeat of other bytes',
    ['copy differs'],
    (facts) => void linesIn(facts).push(linesIn(facts)[0]?.replace('production', 'staging') ?? ''),
  ],
  [
    'an event from nowhere',
    ['copy of no event', 'copy out of order'],
    (facts) => {
      const line = linesIn(facts)[0] ?? '';
      linesIn(facts).push(line.replace(/"eventId": "[^"]+"/, '"eventId": "nobody"'));
    },
  ],
  [
    'events that arrived the wrong way round',
    ['copy out of order'],
    (facts) => void linesIn(facts).unshift(...linesIn(facts).splice(1, 1)),
  ],
  ['a seal that did not arrive', ['seal not delivered'], (facts) => void linesIn(facts).pop()],
  [
    'a seal that arrived before its last event',
    ['copy out of order'],
    (facts) => void linesIn(facts).splice(-2, 0, linesIn(facts).pop() ?? ''),
  ],
  [
    'half a line',
    ['copy unreadable', 'event not delivered', 'copy out of order'].toSorted() as Rule[],
    (facts) => void (linesIn(facts)[0] = (linesIn(facts)[0] ?? '').slice(0, 50)),
  ],
];

describe('every breach is named', () => {
  test.for(BREACHES)('%s', ([, rules, change]) => {
    expect(rulesBrokenBy(change)).toEqual(rules.toSorted());
  });
});

test('a repeated delivery breaks no rule', () => {
  expect(
    rulesBrokenBy((facts) => void linesIn(facts).splice(3, 0, ...linesIn(facts).slice(0, 3))),
  ).toEqual([]);
});

test('a mark about events that have arrived breaks no rule', () => {
  const mark =
    '{"eventType": "audit.restamped", "eventId": "m", "metadata": {"firstSeq": 1, "lastSeq": 2}}';
  expect(rulesBrokenBy((facts) => void linesIn(facts).push(mark))).toEqual([]);
  expect(rulesBrokenBy((facts) => void linesIn(facts).unshift(mark))).toEqual([
    'copy out of order',
  ]);
});

test('the message is put together as the database does it', async () => {
  const [event] = whole.events;
  const { rows } = await withClient(database.rootUrl, (client) =>
    client.query<{ message: string }>('select app_private.shipped_message($1, 7) as message', [
      event?.payload,
    ]),
  );
  expect(shippedMessage(event?.payload ?? '', 7)).toBe(rows[0]?.message);
});

test('what a killed process left of a line is not taken for one', () => {
  const line = '{"eventType": "a", "eventId": "1"}';
  expect(linesOf(`${line}\n{"eventType": "a", "eve${line}\n{"eventType`)).toEqual([line, line]);
});
