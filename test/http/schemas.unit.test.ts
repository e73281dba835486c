import { readFile } from 'node:fs/promises';

import { describe, expect, test } from 'vitest';

import {
  cancelScheduleSchema,
  createFlagSchema,
  createScheduleSchema,
  LIMITS,
  listSchedulesQuerySchema,
  scheduledAtSchema,
  SCHEDULE_STATUSES,
  scheduleSchema,
  updateFlagSchema,
  updatesSchema,
} from 'halyard/schemas';
import type { z } from '../../src/lib/zod.ts';
import { useDatabase, withClient } from '../support/database.ts';
import { one } from '../support/factory.ts';

const accepts = (schema: z.ZodMiniType, value: unknown) => schema.safeParse(value).success;

describe('with the database', () => {
  const database = useDatabase();

  async function ask<T extends object>(sql: string, values: unknown[] = []): Promise<T> {
    return withClient(database.ownerUrl, async (client) =>
      one((await client.query<T>(sql, values)).rows),
    );
  }

  /** How long a column may be, or what its CHECK says. */
  const lengthOf = async (table: string, column: string) =>
    (
      await ask<{ length: number }>(
        `select character_maximum_length as length from information_schema.columns
         where table_schema = 'app_public' and table_name = $1 and column_name = $2`,
        [table, column],
      )
    ).length;
  const checkOf = async (name: string) =>
    (
      await ask<{ definition: string }>(
        'select pg_get_constraintdef(oid) as definition from pg_constraint where conname = $1',
        [name],
      )
    ).definition;

  test('lengths agree', async () => {
    expect(await lengthOf('feature_flags', 'flag_key')).toBe(LIMITS.flagKey);
    expect(await lengthOf('feature_flags', 'environment')).toBe(LIMITS.environment);
    expect(await lengthOf('plans', 'title')).toBe(LIMITS.planTitle);
    expect(await lengthOf('feature_flag_schedules', 'created_by')).toBe(LIMITS.userId);
    expect(await lengthOf('feature_flag_schedules', 'cancelled_by')).toBe(LIMITS.userId);
    expect(await checkOf('feature_flags_description_check')).toContain(`<= ${LIMITS.description})`);
    expect(await lengthOf('feature_flag_schedules', 'requested_by')).toBe(LIMITS.userId);
    for (const column of ['cancel_reason', 'reason'])
      expect(await checkOf(`feature_flag_schedules_${column}_check`)).toContain(
        `<= ${LIMITS.reason})`,
      );
  });

  test('statuses agree', async () => {
    const check = await checkOf('feature_flag_schedules_status_check');
    const inDatabase = [...check.matchAll(/'(\w+)'/g)].map(([, status]) => status);
    expect(inDatabase).toEqual([...SCHEDULE_STATUSES]);
  });

  test('a schedule has the columns of the table, but for what is internal', async () => {
    const { columns } = await ask<{ columns: string[] }>(
      `select array_agg(column_name::text) as columns from information_schema.columns
       where table_schema = 'app_public' and table_name = 'feature_flag_schedules'`,
    );
    const internal = ['flag_id', 'max_attempts', 'next_attempt_at', 'revision'];
    expect(new Set([...Object.keys(scheduleSchema.shape), ...internal])).toEqual(
      new Set([...columns, 'flag_key', 'environment']),
    );
  });

  test.each([
    {},
    { enabled: true },
    { enabled: false, rollout_percentage: 0 },
    { rollout_percentage: 100 },
    { rollout_percentage: 101 },
    { rollout_percentage: -1 },
    { rollout_percentage: 12.5 },
    { rollout_percentage: '50' },
    { rollout_percentage: null },
    { enabled: null },
    { enabled: 'true' },
    { enabled: true, description: 'x' },
    [],
    'enabled',
    null,
  ])('updates %j are judged alike', async (updates) => {
    const { problem } = await ask<{ problem: string | null }>(
      'select app_private.updates_problem($1) as problem',
      [JSON.stringify(updates)],
    );
    expect(accepts(updatesSchema, updates)).toBe(problem === null);
  });

  test.each(['a', 'A.b_c-1', '9', '', '-a', '.a', 'a b', 'a/b', 'ä', 'a\n', 'a🎉'])(
    'the key %j is judged alike',
    async (key) => {
      const { rule } = await ask<{ rule: string }>(
        `select substring(pg_get_constraintdef(oid) from '''(.*?)''') as rule from pg_constraint
         where conname = 'feature_flags_flag_key_check'`,
      );
      const { ok } = await ask<{ ok: boolean }>('select $1::text ~ $2 as ok', [key, rule]);
      expect(accepts(createFlagSchema, { flag_key: key })).toBe(ok);
    },
  );

  test.each([
    '2030-01-31T09:00:00Z',
    '2030-01-31T09:00:00.123456Z',
    '2030-01-31T09:00:00.123456789Z',
    '2032-02-29T23:59:59+14:00',
    '2030-01-31T09:00:00-15:59',
    '9999-12-31T23:59:59Z',
    '0001-01-01T00:00:00Z',
    '2030-01-31T09:00:00-00:00',
  ])('the database reads the time %s as JavaScript does', async (time) => {
    expect(accepts(scheduledAtSchema, time)).toBe(true);
    const { at } = await ask<{ at: Date }>('select $1::timestamptz as at', [time]);
    expect(Math.abs(at.getTime() - Date.parse(time))).toBeLessThanOrEqual(1);
  });

  test.each([
    ['2030-01-31t09:00:00z', '2030-01-31T09:00:00Z'],
    ['2030-01-31T09:00:00.5z', '2030-01-31T09:00:00.5Z'],
    ['2030-01-31 09:00:00+01:00', '2030-01-31T08:00:00Z'],
    ['2030-01-31T09:00:00+16:00', '2030-01-30T17:00:00Z'],
    ['2030-01-31T09:00:00.25-23:59', '2030-02-01T08:59:00.25Z'],
    [`2030-01-31T09:00:00.${'1'.repeat(30)}Z`, '2030-01-31T09:00:00.111111Z'],
    // A leap second is the next one, as in PostgreSQL and POSIX.
    ['2030-06-30T23:59:60Z', '2030-07-01T00:00:00Z'],
    ['2030-07-01T01:59:60.5+02:00', '2030-07-01T00:00:00.5Z'],
    ['2032-02-29T18:59:60-05:00', '2032-03-01T00:00:00Z'],
  ])('the time %s of RFC 3339 is %s', async (time, same) => {
    const read = await ask<{ same: boolean }>('select $1::timestamptz = $2::timestamptz as same', [
      scheduledAtSchema.parse(time),
      same,
    ]);
    expect(read).toEqual({ same: true });
  });
});

test('lengths count characters, not half of them', () => {
  const party = '🎉';
  const { reason, description } = LIMITS;
  expect(accepts(cancelScheduleSchema, { reason: party.repeat(reason) })).toBe(true);
  expect(accepts(cancelScheduleSchema, { reason: party.repeat(reason + 1) })).toBe(false);
  expect(accepts(updateFlagSchema, { description: party.repeat(description) })).toBe(true);
  expect(accepts(updateFlagSchema, { description: party.repeat(description + 1) })).toBe(false);
});

test.each([
  ['2030-01-31T09:00Z'],
  ['2030-01-31T09:00:00'],
  ['2030-01-31T09:00:00+24:00'],
  ['2030-01-31T09:00:00+01:60'],
  ['2030-01-31T09:60:00Z'],
  ['2030-13-01T09:00:00Z'],
  ['2030-01-00T09:00:00Z'],
  ['2030-01-31T09:00:00.Z'],
  ['2030-01-31T09:00:61Z'],
  ['2030-01-31_09:00:00Z'],
  ['2030-01-31  09:00:00Z'],
  ['2030-01-31T09:00:00 Z'],
  ['0001-01-01T00:00:00+16:00'],
  ['2030-01-31T09:00:00+0100'],
  ['2030-01-31T09:00:60Z'],
  ['0000-01-01T00:00:00Z'],
  ['2030-02-30T09:00:00Z'],
  ['2030-01-31T24:00:00Z'],
  ['+02030-01-31T09:00:00Z'],
])('the time %s is not one', (time) => {
  expect(accepts(scheduledAtSchema, time)).toBe(false);
});

test('a reason loses the blanks round it, nothing but blanks is none, and it is no change by itself', () => {
  const parse = (reason: unknown) => updateFlagSchema.parse({ enabled: true, reason }).reason;
  expect(['  why not ', 'why\n', ' \t ', '', null, undefined].map(parse)).toEqual([
    'why not',
    'why',
    null,
    null,
    null,
    undefined,
  ]);
  for (const reason of ['a\nb', 'a\0b', 'a\u009fb', '\ud800', 5])
    expect([reason, accepts(cancelScheduleSchema, { reason })]).toEqual([reason, false]);
  expect(accepts(updateFlagSchema, { reason: 'why not' })).toBe(false);
});

test('unknown fields are refused, also those that every object has', () => {
  const scheduled_at = '2030-01-31T09:00:00Z';
  const good = `"scheduled_at": "${scheduled_at}", "updates": {"enabled": true}`;
  expect(accepts(createScheduleSchema, JSON.parse(`{${good}}`))).toBe(true);
  for (const key of ['created_by', 'status', '__proto__', 'constructor', 'toString'])
    expect(accepts(createScheduleSchema, JSON.parse(`{${good}, "${key}": 1}`))).toBe(false);
});

test('a query has its defaults', () => {
  expect(listSchedulesQuerySchema.parse({})).toEqual({ environment: 'production', limit: 50 });
});

test('front ends can import them: nothing but zod is needed', async () => {
  const todo = [new URL('../../src/schemas.ts', import.meta.url)];
  const seen = new Set<string>();
  for (let file = todo.pop(); file !== undefined; file = todo.pop()) {
    if (seen.has(file.href)) continue;
    seen.add(file.href);
    const source = await readFile(file, 'utf8');
    for (const [, name = ''] of source.matchAll(/from '([^']+)'/g))
      if (name.startsWith('.')) todo.push(new URL(name, file));
      else expect(name, file.pathname).toBe('zod/mini');
    expect(source).not.toMatch(/\b(?:Buffer|process|require)\b/);
  }
  expect(seen.size).toBeGreaterThan(4);
});
