import { readFile } from 'node:fs/promises';
import { beforeAll, describe, expect, test } from 'vitest';
import { z } from '../../src/lib/zod.ts';

import { makeRecorder } from '../../bench/statements.ts';
import { environmentStateSchema, upcomingChangeSchema } from '../../src/schemas.ts';
import { useApi } from '../support/api.ts';
import { useDatabase } from '../support/database.ts';
import { useGraphql } from '../support/graphql.ts';
import { makeTestLog } from '../support/log.ts';
import { adminToken, auditorToken, viewerToken } from '../support/tokens.ts';

const PAGE = await readFile(new URL('../../docs/states.md', import.meta.url), 'utf8');
const ASKED = [...PAGE.matchAll(/```graphql\n([^`]*)```/g)].map(([, query = '']) => query);

const database = useDatabase();
const api = useApi(database);
const graphql = useGraphql(database);

const token = adminToken();
const HOUR = 3_600_000;
const inHours = (hours: number) => new Date(Date.now() + hours * HOUR).toISOString();
const [FROM, TO] = [inHours(-1), inHours(24)];
const SPAN = `environment: "production", from: "${FROM}", to: "${TO}"`;

let scheduleId: string;

/** A flag that alice changes, with two schedules of hers; another flag without any. */
beforeAll(async () => {
  for (const flag_key of ['checkout', 'search'])
    await api.call('POST /api/admin/flags', { token, json: { flag_key } });
  await api.call('PATCH /api/admin/flags/checkout', {
    token,
    json: { rollout_percentage: 5, reason: 'a secret reason' },
  });
  const schedule = (hours: number, updates: object) =>
    api.call('POST /api/admin/flags/checkout/schedule', {
      token,
      json: { scheduled_at: inHours(hours), updates, reason: 'a secret reason' },
    });
  await schedule(3, { rollout_percentage: 50 });
  scheduleId = (await schedule(1, { enabled: true })).body.id;
});

describe('REST', () => {
  test('the state now, and as the schedules will make it, for every role', async () => {
    for (const make of [adminToken, viewerToken, auditorToken]) {
      const ask = async (query: string) => {
        const path = `GET /api/admin/environments/production/state${query}`;
        const { status, body, text } = await api.call(path, { token: make() });
        expect([status, text]).toEqual([200, expect.not.stringMatching(/alice|secret/)]);
        // The keys in this order.
        expect(text).toMatch(
          /"flags":\[{"flag_key":[^{]*"enabled":[^{]*"rollout_percentage":[^{]*"certain":[^{]*"sources":{/,
        );
        return environmentStateSchema.parse(body);
      };
      const before = Date.now();
      const now = await ask('');
      expect(now).toMatchObject({
        ...{ environment: 'production', kind: 'fact' },
        flags: [
          { flag_key: 'checkout', enabled: false, rollout_percentage: 5, certain: true },
          { flag_key: 'search', enabled: false, rollout_percentage: 100, certain: true },
        ],
      });
      expect(Math.abs(Date.parse(now.at) - before)).toBeLessThan(60_000);
      const at = inHours(2);
      const { flags, ...later } = await ask(`?at=${at}`);
      expect(later).toEqual({ environment: 'production', at, kind: 'projection' });
      const [checkout, search] = flags;
      expect(checkout).toMatchObject({ enabled: true, rollout_percentage: 5, certain: true });
      expect(checkout?.sources).toMatchObject({ enabled: { schedule_id: scheduleId } });
      expect(checkout?.sources).not.toHaveProperty('rollout_percentage');
      expect(search?.sources).toEqual({});
    }
  });

  test('an environment without flags has a state, too', async () => {
    const { body } = await api.call('GET /api/admin/environments/staging/state', { token });
    expect(body).toMatchObject({ environment: 'staging', kind: 'fact', flags: [] });
  });

  test('what comes, with the state that each change leaves', async () => {
    const ask = async (query: string) => {
      const { status, body, text } = await api.call(
        `GET /api/admin/environments/production/upcoming${query}`,
        { token: viewerToken() },
      );
      expect([status, text]).toEqual([200, expect.not.stringMatching(/alice|secret/)]);
      return z.array(upcomingChangeSchema).parse(body);
    };
    const [first, second] = await ask('');
    expect(first).toMatchObject({ schedule_id: scheduleId, updates: { enabled: true } });
    expect([first, second]).toMatchObject([
      { status: 'pending', enabled: true, rollout_percentage: 5, plan_id: null },
      { status: 'pending', enabled: true, rollout_percentage: 50, plan_id: null },
    ]);
    expect(await ask('?limit=1')).toEqual([first]);
    expect(await ask(`?from=${inHours(2)}&to=${inHours(4)}`)).toEqual([second]);
  });

  test.for<[path: string, status: number, code: string]>([
    ['no-such/state', 404, 'environment_not_found'],
    ['no-such/upcoming', 404, 'environment_not_found'],
    ['production/state?at=tomorrow', 400, 'invalid_request'],
    ['production/state?when=2030-01-01T00:00:00Z', 400, 'invalid_request'],
    ['production/upcoming?limit=0', 400, 'invalid_request'],
    ['production/upcoming?limit=10001', 400, 'invalid_request'],
    ['production/upcoming?to=2000-01-01T00:00:00Z', 400, 'invalid_value'],
    ['production/upcoming?to=2990-01-01T00:00:00Z', 400, 'invalid_value'],
    [
      'production/upcoming?from=2030-01-02T00:00:00Z&to=2030-01-01T00:00:00Z',
      400,
      'invalid_request',
    ],
  ])('%s is refused', async ([path, status, code]) => {
    const answer = await api.call(`GET /api/admin/environments/${path}`, { token: viewerToken() });
    expect([answer.status, answer.body.code]).toEqual([status, code]);
  });

  test('takes no other method', async () => {
    for (const what of ['state', 'upcoming']) {
      const answer = await api.call(`POST /api/admin/environments/production/${what}`, { token });
      expect(answer.body.code).toBe('method_not_allowed');
    }
  });
});

describe('GraphQL', () => {
  test('the lists of an environment, for every role, name no person and no reason', async () => {
    const query = `{
      flagStateAt(environment: "production", at: "${inHours(4)}") { flagKey flagId enabled rolloutPercentage certain sources }
      upcomingChanges(${SPAN}) {
        at flagKey updates { enabled rolloutPercentage } scheduleId planId occurrenceNo stepNo status enabled rolloutPercentage
      }
      flagChanges(${SPAN}, flagKey: "checkout") {
        at flagKey enabled rolloutPercentage wasEnabled wasRolloutPercentage scheduleId deleted
      }
      schedulesBetween(${SPAN}, first: 1) { id flagKey at updates { enabled } status appliedAt cancelledAt }
      changesPerDay(${SPAN}) { day changes failed pending }
    }`;
    for (const make of [adminToken, viewerToken, auditorToken]) {
      const data = await graphql().data<{ changesPerDay: Record<string, number>[] }>(
        query,
        {},
        make(),
      );
      expect(JSON.stringify(data)).not.toMatch(/alice|secret/);
      expect(data).toMatchObject({
        flagStateAt: [
          {
            ...{ flagKey: 'checkout', enabled: true, rolloutPercentage: 50, certain: true },
            sources: { enabled: { schedule_id: scheduleId } },
          },
          { flagKey: 'search', enabled: false, rolloutPercentage: 100 },
        ],
        upcomingChanges: [
          {
            ...{ scheduleId, updates: { enabled: true, rolloutPercentage: null }, planId: null },
            ...{ status: 'pending', enabled: true, rolloutPercentage: 5 },
          },
          { enabled: true, rolloutPercentage: 50 },
        ],
        flagChanges: [
          { flagKey: 'checkout', rolloutPercentage: 100, wasEnabled: null, deleted: false },
          { rolloutPercentage: 5, wasEnabled: false, wasRolloutPercentage: 100, scheduleId: null },
        ],
        schedulesBetween: [{ id: scheduleId, status: 'pending', appliedAt: null }],
      });
      const sum = (what: string) =>
        data.changesPerDay.reduce((total, day) => total + (day[what] ?? 0), 0);
      expect(['changes', 'failed', 'pending'].map(sum)).toEqual([3, 0, 2]);
    }
  });

  test('a flag’s next schedule and last change; who and why for those who read the trail', async () => {
    const query = `{ featureFlags(condition: { environment: "production" }) {
      nodes { flagKey nextSchedule { id } lastChange { at by eventType scheduleId reason } }
    } }`;
    for (const make of [adminToken, viewerToken, auditorToken]) {
      const isViewer = make === viewerToken;
      const who = { by: isViewer ? null : 'alice', reason: isViewer ? null : 'a secret reason' };
      expect(await graphql().data(query, {}, make())).toMatchObject({
        featureFlags: {
          nodes: [
            {
              ...{ flagKey: 'checkout', nextSchedule: { id: scheduleId } },
              lastChange: { ...who, eventType: 'feature_flag.updated', scheduleId: null },
            },
            {
              ...{ flagKey: 'search', nextSchedule: null },
              lastChange: { eventType: 'feature_flag.created', reason: null },
            },
          ],
        },
      });
    }
  });

  test('a page of flags with their schedules and changes is one statement', async () => {
    const recorder = await makeRecorder(database.authenticatorUrl, makeTestLog().log);
    try {
      // The recorder refuses more than one.
      const { text } = await recorder.statementOf(
        '{ featureFlags { nodes { nextSchedule { id } lastChange { at } } } }',
        {},
      );
      expect(text).toContain('last_flag_change');
    } finally {
      await recorder.close();
    }
  });

  test('flags are found by a part of their key', async () => {
    const find = async (part: string) => {
      const { featureFlags } = await graphql().data<{
        featureFlags: { nodes: { flagKey: string }[] };
      }>(
        `query ($part: String!) { featureFlags(condition: { environment: "production", flagKeyContains: $part }) { nodes { flagKey } } }`,
        { part },
      );
      return featureFlags.nodes.map(({ flagKey }) => flagKey);
    };
    expect(await find('CHECK')).toEqual(['checkout']);
    expect(await find('ec')).toEqual(['checkout']);
    expect(await find('%')).toEqual([]);
    expect(await find('')).toEqual(['checkout', 'search']);
  });

  test.each(ASKED)('docs/states.md asks: %s', async (query) => {
    expect(Object.values(await graphql().data<object>(query, {}, viewerToken()))).not.toContain(
      null,
    );
  });

  test.for<[query: string, code: string, message: string]>([
    [
      '{ flagStateAt(environment: "prodction", at: "2030-01-01T00:00:00Z") { flagKey } }',
      'environment_not_found',
      "There is no environment 'prodction'.",
    ],
    [
      `{ upcomingChanges(${SPAN}, first: 10001) { at } }`,
      'invalid_value',
      'first must be from 0 to 10000.',
    ],
    [
      `{ changesPerDay(${SPAN}, zone: "Zurich1") { day } }`,
      'invalid_value',
      'zone must be the name of a time zone',
    ],
    [
      `{ flagChanges(${SPAN}, flagKey: "no-such") { at } }`,
      'flag_not_found',
      "There is no flag 'no-such' in production.",
    ],
    [
      `{ a: upcomingChanges(${SPAN}, first: 9000) { at } b: flagChanges(${SPAN}, first: 1001) { at } }`,
      'invalid_query',
      'The pages come to more than 10000 rows',
    ],
  ])('%s is refused', async ([query, code, message]) => {
    const { errors } = await graphql().post(query, {}, { token: viewerToken() });
    expect(errors?.[0]?.extensions.code).toBe(code);
    expect(errors?.[0]?.message).toContain(message);
  });
});
