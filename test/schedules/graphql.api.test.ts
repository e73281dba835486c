import { randomUUID } from 'node:crypto';
import { beforeEach, describe, expect, it } from 'vitest';
import { useDatabase, withClient } from '../support/database.ts';
import { insertFlag, one } from '../support/factory.ts';
import { inMinutes, useGraphql } from '../support/graphql.ts';
import { adminToken } from '../support/tokens.ts';
import {
  SCHEDULE,
  CANCEL,
  RESCHEDULE,
  RETRY,
  type Schedule,
  makeSchedule,
  rowsOf,
} from '../support/schedule_mutations.ts';

const database = useDatabase();
const api = useGraphql(database);

let flag: { id: string; flag_key: string; environment: string };

beforeEach(async () => {
  flag = await withClient(database.ownerUrl, (client) => insertFlag(client));
});

const schedule = (changes: object = {}, token?: string) =>
  makeSchedule(api(), flag.flag_key, changes, token);

describe('scheduleFlagChange', () => {
  it('schedules with the name of the admin', async () => {
    const at = inMinutes();
    const made = await schedule({
      scheduledAt: at,
      updates: { enabled: true, rolloutPercentage: 25 },
    });
    expect(made).toMatchObject({
      status: 'pending',
      createdBy: 'alice',
      cancelledBy: null,
      cancelledAt: null,
      updates: { enabled: true, rolloutPercentage: 25 },
      flag: { flagKey: flag.flag_key, environment: 'production' },
    });
    expect(Date.parse(made.scheduledAt)).toBe(Date.parse(at));
    expect(made.scheduledAt).toMatch(/(Z|[+-]\d\d:\d\d)$/);
    expect(one(await rowsOf(database, flag.id))).toMatchObject({
      id: made.id,
      created_by: 'alice',
    });
  });

  it('gives null for what the updates leave alone, and stores nothing for it', async () => {
    const { updates } = await schedule({ updates: { rolloutPercentage: 0 } });
    expect(updates).toEqual({ enabled: null, rolloutPercentage: 0 });
    expect(one(await rowsOf(database, flag.id)).updates).toEqual({ rollout_percentage: 0 });
  });

  it('takes the environment, production unless given', async () => {
    await withClient(database.ownerUrl, (client) =>
      insertFlag(client, { flag_key: flag.flag_key, environment: 'staging' }),
    );
    const made = await schedule({ environment: 'staging' });
    expect(made).toMatchObject({ flag: { environment: 'staging' } });
    expect(await rowsOf(database, flag.id)).toHaveLength(0);
  });

  it('works for an admin whose token has no user id, and records no name', async () => {
    const made = await schedule({}, adminToken({ userId: undefined, email: undefined }));
    expect(made.createdBy).toBeNull();
  });

  it('puts the ids of the request into the audit row', async () => {
    const { headers } = await api().post(
      SCHEDULE,
      { input: { flagKey: flag.flag_key, scheduledAt: inMinutes(), updates: { enabled: true } } },
      { headers: { 'x-request-id': 'request-of-this-test' } },
    );
    const rows = await withClient(database.ownerUrl, async (client) => {
      const result = await client.query(
        'select request_id, client_request_id, admin_user_id from audit.events where flag_key = $1 and schedule_id is not null',
        [flag.flag_key],
      );
      return result.rows as unknown[];
    });
    expect(rows).toEqual([
      {
        request_id: headers.get('x-request-id'),
        client_request_id: 'request-of-this-test',
        admin_user_id: 'alice',
      },
    ]);
  });

  describe('refuses, and writes nothing:', () => {
    const in1h = inMinutes();
    const cases: [string, object, string][] = [
      ['a time that has passed', { scheduledAt: '2020-01-01T00:00:00Z' }, 'scheduled_at_in_past'],
      ['a time without offset', { scheduledAt: '2090-01-01T00:00:00' }, 'invalid_scheduled_at'],
      ['a year beyond 9999', { scheduledAt: '10000-01-01T00:00:00Z' }, 'invalid_scheduled_at'],
      [
        'a year beyond 9999, signed',
        { scheduledAt: '+010000-01-01T00:00:00Z' },
        'invalid_scheduled_at',
      ],
      [
        'a time whose UTC is beyond 9999',
        { scheduledAt: '9999-12-31T23:59:59-01:00' },
        'scheduled_at_out_of_range',
      ],
      [
        'a day that does not exist',
        { scheduledAt: '2090-02-30T00:00:00Z' },
        'invalid_scheduled_at',
      ],
      ['words for a time', { scheduledAt: 'tomorrow' }, 'invalid_scheduled_at'],
      ['infinity', { scheduledAt: 'infinity' }, 'invalid_scheduled_at'],
      ['a number for a time', { scheduledAt: 4_000_000_000 }, 'invalid_scheduled_at'],
      ['null for a time', { scheduledAt: null }, 'invalid_scheduled_at'],
      ['empty updates', { updates: {} }, 'invalid_updates'],
      ['null updates', { updates: null }, 'invalid_updates'],
      ['an unknown key', { updates: { enabled: true, color: 'red' } }, 'invalid_updates'],
      ['-1 percent', { updates: { rolloutPercentage: -1 } }, 'invalid_updates'],
      ['101 percent', { updates: { rolloutPercentage: 101 } }, 'invalid_updates'],
      ['12.5 percent', { updates: { rolloutPercentage: 12.5 } }, 'invalid_updates'],
      ['"50" percent', { updates: { rolloutPercentage: '50' } }, 'invalid_updates'],
      ['2^31 percent', { updates: { rolloutPercentage: 2 ** 31 } }, 'invalid_updates'],
      ['null percent', { updates: { rolloutPercentage: null } }, 'invalid_updates'],
      ['null enabled', { updates: { enabled: null, rolloutPercentage: 1 } }, 'invalid_updates'],
      ['"true" enabled', { updates: { enabled: 'true' } }, 'invalid_updates'],
      ['a key of no characters', { flagKey: '' }, 'flag_not_found'],
      ['a key of 101 characters', { flagKey: 'x'.repeat(101) }, 'flag_not_found'],
      ['a key with a slash', { flagKey: 'a/b' }, 'flag_not_found'],
      ['a key with an emoji', { flagKey: '🚩' }, 'flag_not_found'],
      ['a key with a NUL', { flagKey: 'a\0b' }, 'invalid_value'],
      ['a key with half a character', { flagKey: 'a\ud83d' }, 'invalid_value'],
      ['a key that is a number', { flagKey: 7 }, 'invalid_value'],
      ['a key that is null', { flagKey: null }, 'invalid_value'],
      ['an unknown environment', { environment: 'moon' }, 'environment_not_found'],
      ['createdBy', { createdBy: 'mallory' }, 'invalid_value'],
      ['status', { status: 'applied' }, 'invalid_value'],
    ];

    it.each(cases)('%s', async (_name, changes, code) => {
      const input = {
        flagKey: flag.flag_key,
        scheduledAt: in1h,
        updates: { enabled: true },
        ...changes,
      };
      expect(await api().codeOf(SCHEDULE, { input })).toBe(code);
      expect(await rowsOf(database, flag.id)).toHaveLength(0);
    });

    it.each([
      ['updates: { rolloutPercentage: null }', 'invalid_updates'],
      ['updates: { rolloutPercentage: 12.5 }', 'invalid_updates'],
      ['updates: { color: 1 }', 'invalid_updates'],
      ['updates: { enabled: true }, createdBy: "mallory"', 'invalid_value'],
    ])('%s as a literal', async (text, code) => {
      const query = `mutation { scheduleFlagChange(input: {
        flagKey: "${flag.flag_key}", scheduledAt: "${in1h}", ${text} }) { clientMutationId } }`;
      expect(await api().codeOf(query)).toBe(code);
      expect(await rowsOf(database, flag.id)).toHaveLength(0);
    });

    it('a bad time in a literal, and one in a variable with a name of its own', async () => {
      const mutation = (at: string, head = '') => `mutation ${head} { scheduleFlagChange(input: {
        flagKey: "${flag.flag_key}", scheduledAt: ${at}, updates: { enabled: true } }) { clientMutationId } }`;
      expect(await api().codeOf(mutation('"2090-01-01"'))).toBe('invalid_scheduled_at');
      expect(await api().codeOf(mutation('$when', '($when: Datetime!)'), { when: '1 May' })).toBe(
        'invalid_scheduled_at',
      );
      expect(await api().codeOf(mutation('$when', '($when: Datetime!)'))).toBe(
        'invalid_scheduled_at',
      );
      expect(await rowsOf(database, flag.id)).toHaveLength(0);
    });

    it('a null through a variable inside the updates', async () => {
      const query = `mutation ($on: Boolean) { scheduleFlagChange(input: { flagKey: "${flag.flag_key}",
        scheduledAt: "${in1h}", updates: { enabled: $on, rolloutPercentage: 3 } }) { clientMutationId } }`;
      expect(await api().codeOf(query, { on: null })).toBe('invalid_updates');
      expect(await rowsOf(database, flag.id)).toHaveLength(0);
      await api().data(query, {});
      expect(await rowsOf(database, flag.id)).toHaveLength(1);
    });
  });
});

describe('cancelFlagSchedule', () => {
  it('keeps who created and who cancelled, and why', async () => {
    const { id } = await schedule();
    const { cancelFlagSchedule } = await api().data<{
      cancelFlagSchedule: { featureFlagSchedule: Schedule };
    }>(CANCEL, { id, reason: 'not yet' }, adminToken({ userId: 'bob', email: 'bob@example.com' }));
    const cancelled = cancelFlagSchedule.featureFlagSchedule;
    expect(cancelled).toMatchObject({
      status: 'cancelled',
      createdBy: 'alice',
      cancelledBy: 'bob',
      cancelReason: 'not yet',
    });
    expect(Date.parse(cancelled.cancelledAt ?? '')).toBeGreaterThan(0);
  });

  it('refuses one that is not pending, one that does not exist, and an id that is none', async () => {
    const { id } = await schedule();
    await api().data(CANCEL, { id });
    expect(await api().codeOf(CANCEL, { id })).toBe('schedule_not_pending');
    expect(await api().codeOf(CANCEL, { id: randomUUID() })).toBe('schedule_not_found');
    expect(await api().codeOf(CANCEL, { id: 'no-uuid' })).toBe('invalid_value');
    expect(await api().codeOf(CANCEL, { id: null })).toBe('invalid_value');
  });

  it('takes every blank off a reason that REST takes off', async () => {
    const blanks = '\u00a0\u1680\u2000\u200a\u2028\u2029\u202f\u205f\u3000\ufeff \t\n\v\f\r';
    expect(blanks.trim()).toBe('');
    const reason = `${blanks}${'x'.repeat(500)}${blanks}`;
    const { id } = await schedule();
    expect(await api().data(CANCEL, { id, reason })).toMatchObject({
      cancelFlagSchedule: { featureFlagSchedule: { cancelReason: 'x'.repeat(500) } },
    });
  });

  it('refuses a reason of 501 characters', async () => {
    const { id } = await schedule();
    expect(await api().codeOf(CANCEL, { id, reason: 'x'.repeat(501) })).toBe('invalid_value');
    expect(one(await rowsOf(database, flag.id))).toMatchObject({
      status: 'pending',
      cancelled_by: null,
    });
  });
});

describe('rescheduleFlagChange', () => {
  it('moves a pending schedule, and not into the past', async () => {
    const { id } = await schedule();
    const at = inMinutes(120);
    expect(await api().data(RESCHEDULE, { id, at, reason: ' the fair ' })).toMatchObject({
      rescheduleFlagChange: {
        featureFlagSchedule: { reason: 'the fair', requestedBy: 'alice' },
      },
    });
    expect(one(await rowsOf(database, flag.id)).scheduled_at).toEqual(new Date(at));
    expect(await api().codeOf(RESCHEDULE, { id, at: inMinutes(-1) })).toBe('scheduled_at_in_past');
    expect(await api().codeOf(RESCHEDULE, { id, at: '2090-01-01' })).toBe('invalid_scheduled_at');
    expect(one(await rowsOf(database, flag.id)).scheduled_at).toEqual(new Date(at));
  });
});

describe('retryFlagSchedule', () => {
  it('makes a failed schedule pending again, and only a failed one', async () => {
    const { id } = await schedule();
    expect(await api().codeOf(RETRY, { id })).toBe('schedule_not_failed');
    await withClient(database.ownerUrl, (client) =>
      client.query(
        `update app_public.feature_flag_schedules set status = 'failed', attempts = 3 where id = $1`,
        [id],
      ),
    );
    const { retryFlagSchedule } = await api().data<{
      retryFlagSchedule: { featureFlagSchedule: object };
    }>(RETRY, { id, reason: 'mended' });
    expect(retryFlagSchedule.featureFlagSchedule).toEqual({
      ...{ id, status: 'pending', attempts: 0 },
      ...{ reason: 'mended', requestedBy: 'alice' },
    });
  });
});
