import { randomUUID } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { inMinutes, useApi } from '../support/api.ts';
import { useDatabase } from '../support/database.ts';
import { FLAG, good, SCHEDULES, useRefusals } from '../support/refusals.ts';

const database = useDatabase();
const api = useApi(database);

const site = useRefusals(database, api);
const { expectRefused } = site;

describe('scheduled_at', () => {
  test.each([
    ['missing', undefined],
    ['null', null],
    ['a number', 1_900_000_000],
    ['empty', ''],
    ['without an offset', '2035-01-01T09:00:00'],
    ['a date', '2035-01-01'],
    ['words', 'tomorrow'],
    ['at 24:00', '2035-01-01T24:00:00Z'],
    ['on 30 February', '2035-02-30T09:00:00Z'],
    ['on 29 February of no leap year', '2035-02-29T09:00:00Z'],
    ['of a year with five digits', '+010000-01-01T00:00:00Z'],
    ['of the year 0', '0000-01-01T00:00:00Z'],
    ['with an offset of 24 hours', '2035-01-01T09:00:00+24:00'],
    ['with a second 60 that is no leap second', '2035-01-01T09:00:60Z'],
    ['with 100 digits of a second', `2035-01-01T09:00:00.${'1'.repeat(100)}Z`],
    ['infinity', 'infinity'],
    ['with something behind it', '2035-01-01T09:00:00Z; drop table'],
  ])('%s is refused, for a new schedule and for a move', async (_, scheduled_at) => {
    const code = 'invalid_scheduled_at';
    await expectRefused(`POST ${SCHEDULES}`, { json: { ...good(), scheduled_at } }, 400, code);
    await expectRefused(`PATCH ${site.schedule}`, { json: { scheduled_at } }, 400, code);
  });

  test.each([
    ['in the past', () => inMinutes(-1), 'scheduled_at_in_past'],
    ['in another century', () => '1066-10-14T09:00:00Z', 'scheduled_at_in_past'],
    ['in the year 10000 in UTC', () => '9999-12-31T23:00:00-02:00', 'scheduled_at_out_of_range'],
  ])('%s is refused, for a new schedule and for a move', async (_, time, code) => {
    const scheduled_at = time();
    await expectRefused(`POST ${SCHEDULES}`, { json: { ...good(), scheduled_at } }, 400, code);
    await expectRefused(`PATCH ${site.schedule}`, { json: { scheduled_at } }, 400, code);
  });
});

describe('updates', () => {
  test.each([
    ['missing', undefined],
    ['null', null],
    ['empty', {}],
    ['an array', [{ enabled: true }]],
    ['text', 'enabled'],
    ['with an unknown key', { enabled: true, description: 'x' }],
    ['with an unknown key alone', { description: 'x' }],
    ['with enabled as text', { enabled: 'true' }],
    ['with enabled null', { enabled: null }],
    ['with the percentage -1', { rollout_percentage: -1 }],
    ['with the percentage 101', { rollout_percentage: 101 }],
    ['with the percentage 12.5', { rollout_percentage: 12.5 }],
    ['with the percentage "50"', { rollout_percentage: '50' }],
    ['with the percentage null', { rollout_percentage: null }],
    ['with the percentage 1e400', { rollout_percentage: Infinity }],
  ])('%s is refused', async (_, updates) => {
    await expectRefused(
      `POST ${SCHEDULES}`,
      { json: { ...good(), updates } },
      400,
      'invalid_updates',
    );
  });

  test('with __proto__ is refused, and says where', async () => {
    const body = `{"scheduled_at": "${inMinutes(60)}", "updates": {"__proto__": {"enabled": true}, "enabled": true}}`;
    const headers = { 'content-type': 'application/json' };
    const answer = await expectRefused(
      `POST ${SCHEDULES}`,
      { body, headers },
      400,
      'invalid_updates',
    );
    expect(answer.body.errors).toMatchObject([{ path: 'updates' }]);
  });
});

describe('what a client may not say', () => {
  test.each<Record<string, unknown>>([
    { created_by: 'mallory' },
    { cancelled_by: 'mallory' },
    { cancelled_at: '2035-01-01T00:00:00Z' },
    { status: 'applied' },
    { applied_at: '2035-01-01T00:00:00Z' },
    { attempts: 0 },
    { id: randomUUID() },
    { environment: 'staging' },
    { toString: 1 },
  ])('%j is refused in every body', async (extra) => {
    const json = { ...good(), ...extra };
    await expectRefused(`POST ${SCHEDULES}`, { json }, 400, 'invalid_request');
    const scheduled_at = inMinutes(60);
    await expectRefused(
      `PATCH ${site.schedule}`,
      { json: { scheduled_at, ...extra } },
      400,
      'invalid_request',
    );
    await expectRefused(`DELETE ${site.schedule}`, { json: extra }, 400, 'invalid_request');
    await expectRefused(`POST ${site.schedule}/retry`, { json: extra }, 400, 'invalid_request');
    await expectRefused(
      `PATCH /api/admin/flags/${FLAG}`,
      { json: { enabled: true, ...extra } },
      400,
      'invalid_request',
    );
  });

  test('thousands of unknown keys get a short answer', async () => {
    const json = Object.fromEntries(Array.from({ length: 4_000 }, (_, i) => [`key-${i}`, 1]));
    const answer = await expectRefused(`POST ${SCHEDULES}`, { json }, 400, 'invalid_request');
    expect(answer.text.length).toBeLessThan(5_000);
  });
});

describe('reason', () => {
  test.each([
    ['501 characters', 'x'.repeat(501)],
    ['NUL', 'a\0b'],
    ['half a surrogate pair', 'a\ud800b'],
    ['a number', 5],
  ])('%s is refused', async (_, reason) => {
    await expectRefused(`DELETE ${site.schedule}`, { json: { reason } }, 400, 'invalid_request');
  });
});

describe('a new flag', () => {
  test.each([
    ['no key', {}],
    ['an empty key', { flag_key: '' }],
    ['a key of 101 characters', { flag_key: 'x'.repeat(101) }],
    ['a key with a slash', { flag_key: 'a/b' }],
    ['a key with a line feed at its end', { flag_key: 'a\n' }],
    ['a key with an emoji', { flag_key: 'a🎉' }],
    ['an environment of 21 characters', { flag_key: 'a', environment: 'x'.repeat(21) }],
    ['a percentage of 101', { flag_key: 'a', rollout_percentage: 101 }],
    ['a description of 2,001 characters', { flag_key: 'a', description: 'x'.repeat(2_001) }],
    ['a description with NUL', { flag_key: 'a', description: '\0' }],
    ['enabled null', { flag_key: 'a', enabled: null }],
    ['an id', { flag_key: 'a', id: randomUUID() }],
  ])('with %s is refused', async (_, json) => {
    await expectRefused('POST /api/admin/flags', { json }, 400, 'invalid_request');
  });

  test('whose address and body name different environments is refused', async () => {
    const json = { flag_key: 'a', environment: 'staging' };
    await expectRefused(
      'POST /api/admin/flags?environment=production',
      { json },
      400,
      'invalid_request',
    );
  });

  test('that exists is a conflict', async () => {
    await expectRefused('POST /api/admin/flags', { json: { flag_key: FLAG } }, 409, 'flag_exists');
  });
});

describe('a change of a flag', () => {
  test.each([
    ['nothing', {}],
    ['a key', { flag_key: 'other' }],
    ['a percentage of 12.5', { rollout_percentage: 12.5 }],
    ['enabled null', { enabled: null }],
  ])('to %s is refused', async (_, json) => {
    await expectRefused(`PATCH /api/admin/flags/${FLAG}`, { json }, 400, 'invalid_request');
  });
});
