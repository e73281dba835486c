import { glob, readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { beforeAll, expect, test } from 'vitest';
import { withEventTypes } from '../../../scripts/events_page.ts';
import { EVENT_TYPES, type EventType } from '../../../src/audit/event_types.ts';
import { readEventTypes } from '../../../src/audit/verification/event_types.ts';
import { useDatabase, withClient, withRollback } from '../../support/database.ts';
import { insertFlag, insertSchedule } from '../../support/factory.ts';
import { deadLetters, queuedEvents } from '../../support/trail.ts';
import { writeEveryType, type WrittenEvent } from '../../support/every_event.ts';

const database = useDatabase();
const events = new Map<string, readonly WrittenEvent[]>();

beforeAll(async () => {
  const written = await withClient(database.rootUrl, writeEveryType);
  for (const [type, all] of Map.groupBy(written, ({ event_type }) => event_type))
    events.set(type, all);
});

test('there is a way to write each type, and no other', () => {
  expect([...events.keys()].toSorted()).toEqual(EVENT_TYPES.map(({ type }) => type).toSorted());
});

/** Keys that an event of any type can have. */
const COMMON = ['adminUserId', 'adminEmail', 'claimed', 'repeatedId'];

test.for(EVENT_TYPES)('$type has the level and the keys that the catalogue has', (expected) => {
  const written = events.get(expected.type) ?? [];
  expect(new Set(written.map(({ level }) => level))).toEqual(new Set([expected.level]));
  const keys = new Set(written.flatMap(({ metadata }) => Object.keys(metadata)));
  for (const key of COMMON) keys.delete(key);
  expect([...keys].toSorted()).toEqual(expected.metadata_keys.toSorted());
});

/** The event that has most of its type's keys, with ids, times and measurements that are the same in each run. */
function exampleOf({ type, metadata_keys: keys }: EventType): string {
  // Of two that have as many, the one that has the earlier keys: ids, and so the order of some events, are random.
  const rank = ({ metadata }: WrittenEvent) =>
    keys.map((key) => Number(!(key in metadata))).join('');
  const size = ({ metadata }: WrittenEvent) => keys.filter((key) => key in metadata).length;
  // And of two that differ in ids and times only, any.
  const words = ({ message }: WrittenEvent) =>
    message.replaceAll(/[0-9a-f.:-]*\d[0-9a-f.:-]*/gi, '');
  const [best] = (events.get(type) ?? []).toSorted(
    (a, b) =>
      size(b) - size(a) || rank(a).localeCompare(rank(b)) || words(a).localeCompare(words(b)),
  );
  const text = JSON.stringify(JSON.parse(best?.message ?? ''), null, 2).replace(
    /request-\d/,
    '5b0e6f55-1111-4222-8333-444455556666',
  );
  const ids = distinct(text, /[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/g);
  const times = distinct(text, /\d{4}-\d\d-\d\dT[\d:.]+Z/g).toSorted();
  const minutes = (n: number) => new Date(Date.UTC(2026, 10, 2, 9, n)).toISOString();
  return (
    [...ids, ...times]
      .reduce((result, value, i) => {
        const digits = String(i + 1).padStart(12, '0');
        const fixed = minutes(i - ids.length).replace('.000Z', '.000000Z');
        return result.replaceAll(
          value,
          i < ids.length ? `00000000-0000-8000-8000-${digits}` : fixed,
        );
      }, text)
      .replace(/"latenessMs": \d+/, '"latenessMs": 7')
      .replaceAll(/"stoppedForMs": \d+/g, '"stoppedForMs": 90000')
      // Of a content with ids.
      .replaceAll(/"contentHash": "[0-9a-f]{64}"/g, `"contentHash": "${'5a'.repeat(32)}"`)
      .replace(/"month": "\d{4}-\d\d"/, '"month": "2025-11"')
  );
}

function distinct(text: string, pattern: RegExp): string[] {
  return [...new Set(text.match(pattern))];
}

test('docs/events.md is what the catalogue and the events say', async () => {
  const file = fileURLToPath(new URL('../../../docs/events.md', import.meta.url));
  const examples = new Map(EVENT_TYPES.map((type) => [type.type, exampleOf(type)]));
  await expect(
    await withEventTypes(await readFile(file, 'utf8'), EVENT_TYPES, examples),
    'docs/events.md differs from audit.event_types: run `npm run schema`',
  ).toMatchFileSnapshot(file);
});

test('the fixture, run again, mends the rows, and takes those away that no event is of', async () => {
  const fixture = new URL(
    '../../../migrations/fixtures/audit/record/event_types.sql',
    import.meta.url,
  );
  const left = await withRollback(database, async (client) => {
    await client.query(
      `update audit.event_types set level = 'info', description = '', position = 99;
       delete from audit.event_types where type = 'audit.gap';
       insert into audit.event_types values ('plan.made', 1, 'info', '', '{}'), ('plan.used', 2, 'error', '', '{}');
       select app_private.record_event('plan.used', 'TEST', '{}')`,
    );
    await client.query(await readFile(fixture, 'utf8'));
    return readEventTypes(client);
  });
  expect(left.filter(({ type }) => type !== 'plan.used')).toEqual(EVENT_TYPES);
  expect(left).toHaveLength(EVENT_TYPES.length + 1);
});

/** Records of a copy that are no events: docs/audit.md. */
const RECORDS = ['audit.sealed', 'audit.restamped', 'audit.missing'];

test('the documentation names no type that there isn’t', async () => {
  const root = new URL('../../../', import.meta.url);
  const pages: string[] = [];
  for await (const page of glob(['README.md', 'docs/*.md', 'http/*'], { cwd: root }))
    pages.push(await readFile(new URL(page, root), 'utf8'));
  const kinds = [...new Set(EVENT_TYPES.map(({ type }) => type.split('.')[0]))].join('|');
  const named = pages
    .join('\n')
    .match(new RegExp(`(?<=[\`'"])(?:${kinds})[.][a-z_]+(?=[\`'"])`, 'g'));
  const { rows } = await withClient(database.ownerUrl, (client) =>
    client.query<{ name: string }>(
      `select 'audit.' || name as name
       from (select relname from pg_class where relnamespace = 'audit'::regnamespace
         union all select proname from pg_proc where pronamespace = 'audit'::regnamespace) as n (name)`,
    ),
  );
  const known = new Set([...RECORDS, ...events.keys(), ...rows.map(({ name }) => name)]);
  expect(new Set(named).size).toBeGreaterThan(20);
  expect([...new Set(named)].filter((name) => !known.has(name))).toEqual([]);
});

test('types that the catalogue lacks are warnings, and no event is lost', async () => {
  await withRollback(database, async (client) => {
    await client.query(`delete from audit.event_types where type <> 'feature_flag.created'`);
    const flag = await insertFlag(client);
    await insertSchedule(client, flag.id);
    expect(await deadLetters(client)).toEqual([]);
    const written = (await queuedEvents(client)).slice(-2);
    expect(written).toMatchObject([
      { event_type: 'feature_flag.created', level: 'info' },
      { event_type: 'flag_schedule.created', level: 'warning' },
    ]);
    expect(JSON.parse(written[1]?.payload ?? '')).toMatchObject({ level: 'warning' });
  });
});
