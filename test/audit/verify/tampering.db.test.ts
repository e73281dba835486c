import type pg from 'pg';
import { describe, expect, test } from 'vitest';
import { value, withActors } from '../../support/actors.ts';
import { useDatabase } from '../../support/database.ts';
import { findings, sealFlags, tamper } from '../../support/sealed_trail.ts';
import { afterTampering, event, brief } from '../../support/tampering.ts';

const database = useDatabase();

test('nothing changed: nothing found', async () => {
  expect(await afterTampering(database)).toEqual([]);
});

describe('a column of an event is changed', () => {
  /** What else a column of this type could say. */
  const OTHER: Record<string, string> = {
    uuid: 'gen_random_uuid()',
    text: "'forged'",
    bigint: '4711',
    boolean: 'not reconciled',
    jsonb: `metadata || '{"after": {"enabled": true}}'`,
  };
  const SPECIAL: Record<string, string> = {
    level: "'error'",
    actor_kind: "'system'",
    occurred_at: "occurred_at + interval '1 microsecond'",
    payload: `replace(payload, '"enabled": false', '"enabled": true')`,
  };

  async function columns(client: pg.ClientBase): Promise<{ name: string; type: string }[]> {
    const { rows } = await client.query<{ name: string; type: string }>(
      `select attname::text as name, atttypid::regtype::text as type from pg_attribute
       where attrelid = 'audit.events'::regclass and attnum > 0 and not attisdropped`,
    );
    return rows;
  }

  test('each of them is told by name, and nothing else', async () => {
    const all = await withActors(database, columns);
    expect(all.length).toBeGreaterThanOrEqual(18);
    for (const { name, type } of all) {
      const to = SPECIAL[name] ?? OTHER[type] ?? `no value for ${type}`;
      const found = await afterTampering(
        database,
        `update audit.events set ${name} = ${to} where ${event(12)}`,
      );
      const status = name === 'payload' ? 'event_altered' : 'column_differs';
      expect.soft(brief(found), name).toEqual([[status, 2, [12]]]);
      if (name !== 'payload')
        expect.soft(found[0]?.detail).toBe(`Not what the event's text says: ${name}.`);
    }
  });

  test('each that may be null is told when it is emptied', async () => {
    const { names } = await withActors(database, async (client) => {
      await sealFlags(client, 1);
      const { rows } = await client.query<{ names: string[] }>(
        `select array(select a.attname::text from pg_attribute a
           where a.attrelid = 'audit.events'::regclass and a.attnum > 0 and not a.attnotnull
             and to_jsonb(e) -> a.attname::text <> 'null') as names from audit.events e`,
      );
      return rows[0] ?? { names: [] };
    });
    expect(names).toEqual(
      expect.arrayContaining(['flag_key', 'flag_id', 'revision', 'environment']),
    );
    for (const name of names) {
      const found = await afterTampering(
        database,
        `update audit.events set ${name} = null where ${event(3)}`,
      );
      expect.soft(brief(found), name).toEqual([['column_differs', 1, [3]]]);
      expect.soft(found[0]?.detail).toContain(name);
    }
  });

  test('a time in another month', async () => {
    const found = await afterTampering(
      database,
      `update audit.events set occurred_at = occurred_at + interval '1 month' where ${event(25)}`,
    );
    expect(brief(found)).toEqual([['column_differs', 3, [25]]]);
    expect(found[0]?.detail).toContain('occurred_at');
  });

  test('column and text changed together are an altered text', async () => {
    const found = await afterTampering(
      database,
      `update audit.events set environment = 'staging',
         payload = replace(payload, '"production"', '"staging"') where ${event(12)}`,
    );
    expect(brief(found)).toEqual([['event_altered', 2, [12]]]);
  });

  test.for(['not JSON', '', 'null', '{"level": 1}'])('the text %j', async (text) => {
    const found = await afterTampering(
      database,
      `update audit.events set payload = '${text}' where ${event(12)}`,
    );
    expect(brief(found)).toEqual([['event_altered', 2, [12]]]);
  });
});

describe('events', () => {
  test('deleted', async () => {
    const found = await afterTampering(
      database,
      `delete from audit.events where ${event(5)} or ${event(6)}`,
    );
    expect(brief(found)).toEqual([['event_missing', 1, [5, 6]]]);
  });

  test('put in by hand, with a text of its own or with another’s', async () => {
    const found = await afterTampering(
      database,
      `insert into audit.events select (jsonb_populate_record(e, jsonb_build_object('id', gen_random_uuid()))).*
       from audit.events e where ${event(5)}`,
    );
    expect(brief(found)).toEqual([['event_unsealed', null, null]]);
    expect(found[0]?.detail).toMatch(/^1 events are neither sealed nor queued/);
  });

  test('put in by hand under the id of another, in another month', async () => {
    const found = await afterTampering(
      database,
      `insert into audit.events select (jsonb_populate_record(e, jsonb_build_object(
         'occurred_at', e.occurred_at + interval '1 month'))).* from audit.events e where ${event(5)}`,
    );
    expect(brief(found)).toEqual([['event_unsealed', null, null]]);
  });

  test('given the text of another', async () => {
    const found = await afterTampering(
      database,
      `update audit.events set payload = (select payload from audit.events where ${event(4)}) where ${event(3)}`,
    );
    expect(brief(found)).toEqual([['event_altered', 1, [3]]]);
  });
});

test('the range that is asked for is the one that is looked at', async () => {
  await withActors(database, async (client) => {
    await sealFlags(client, 25);
    await tamper(client, `delete from audit.events where ${event(5)} or ${event(25)}`);
    expect(brief(await findings(client, 1, 20))).toEqual([['event_missing', 1, [5]]]);
    expect(brief(await findings(client, 11, 20))).toEqual([]);
    expect(brief(await findings(client, 11))).toEqual([['event_missing', 3, [25]]]);
    expect(await value(client, 'select count(*)::int from audit.verify(12, 13)')).toBe(1);
  });
});
