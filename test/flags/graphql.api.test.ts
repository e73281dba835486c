import { randomUUID } from 'node:crypto';
import { beforeEach, describe, expect, it } from 'vitest';
import { useDatabase, withClient } from '../support/database.ts';
import { insertFlag, insertSchedule, one } from '../support/factory.ts';
import { inMinutes, useGraphql } from '../support/graphql.ts';
import { adminToken, auditorToken, viewerToken } from '../support/tokens.ts';

const database = useDatabase();
const api = useGraphql(database);

const FIELDS = 'id flagKey environment enabled rolloutPercentage description createdAt updatedAt';
const CREATE = `mutation ($flag: FeatureFlagInput!) {
  createFeatureFlag(input: { featureFlag: $flag }) { featureFlag { ${FIELDS} } }
}`;
const UPDATE = `mutation ($id: UUID!, $patch: FeatureFlagPatch!) {
  updateFeatureFlag(input: { id: $id, patch: $patch }) { featureFlag { ${FIELDS} } }
}`;

let count = 0;
let key: string;

beforeEach(() => {
  count += 1;
  key = `graphql-flag-${count}`;
});

async function flagsOf(flagKey: string): Promise<Record<string, unknown>[]> {
  return withClient(database.ownerUrl, async (client) => {
    const { rows } = await client.query<Record<string, unknown>>(
      'select * from app_public.feature_flags where flag_key = $1',
      [flagKey],
    );
    return rows;
  });
}

const insert = (changes: object = {}) =>
  withClient(database.ownerUrl, (client) => insertFlag(client, { flag_key: key, ...changes }));

describe('createFeatureFlag', () => {
  it('creates a flag with defaults', async () => {
    const data = await api().data<{ createFeatureFlag: { featureFlag: object } }>(CREATE, {
      flag: { flagKey: key },
    });
    expect(data.createFeatureFlag.featureFlag).toMatchObject({
      flagKey: key,
      environment: 'production',
      enabled: false,
      rolloutPercentage: 100,
      description: null,
    });
    expect(await flagsOf(key)).toHaveLength(1);
  });

  it.each([
    ['no characters', { flagKey: '' }],
    ['101 characters', { flagKey: 'x'.repeat(101) }],
    ['a slash', { flagKey: 'a/b' }],
    ['percent-encoding', { flagKey: 'a%2Fb' }],
    ['an emoji', { flagKey: '🚩' }],
    ['a NUL', { flagKey: 'a\0b' }],
    ['null', { flagKey: null }],
    ['-1 percent', { flagKey: 'bad', rolloutPercentage: -1 }],
    ['101 percent', { flagKey: 'bad', rolloutPercentage: 101 }],
    ['12.5 percent', { flagKey: 'bad', rolloutPercentage: 12.5 }],
    ['"50" percent', { flagKey: 'bad', rolloutPercentage: '50' }],
    ['null percent', { flagKey: 'bad', rolloutPercentage: null }],
    ['an environment of 21 characters', { flagKey: 'bad', environment: 'e'.repeat(21) }],
    ['a description of 2,001', { flagKey: 'bad', description: 'd'.repeat(2001) }],
    ['an id', { flagKey: 'bad', id: randomUUID() }],
    ['a createdAt', { flagKey: 'bad', createdAt: '2020-01-01T00:00:00Z' }],
  ])('refuses %s', async (_name, flag) => {
    expect(await api().codeOf(CREATE, { flag })).toBe('invalid_value');
    expect(await flagsOf('bad')).toHaveLength(0);
  });

  it('says what a value must be, by the column’s name', async () => {
    const answer = await api().post(CREATE, { flag: { flagKey: 'bad', rolloutPercentage: 101 } });
    expect(answer.errors?.[0]?.message).toBe(
      'rollout_percentage must be a whole number from 0 to 100.',
    );
  });

  it('refuses one that exists, and one outside the token’s environments', async () => {
    await insert();
    expect(await api().codeOf(CREATE, { flag: { flagKey: key } })).toBe('flag_exists');
    const token = adminToken({ environments: ['staging'] });
    expect(await api().codeOf(CREATE, { flag: { flagKey: 'elsewhere' } }, token)).toBe('forbidden');
    expect(await flagsOf('elsewhere')).toHaveLength(0);
  });
});

describe('updateFeatureFlag', () => {
  it('changes what the patch names', async () => {
    const { id } = await insert();
    const data = await api().data<{ updateFeatureFlag: { featureFlag: object } }>(UPDATE, {
      id,
      patch: { enabled: true, description: 'on' },
    });
    expect(data.updateFeatureFlag.featureFlag).toMatchObject({
      id,
      enabled: true,
      rolloutPercentage: 100,
      description: 'on',
    });
  });

  it('can be asked what will change the flag again, as its documentation says', async () => {
    const { id } = await insert();
    const later = await withClient(database.ownerUrl, async (client) => {
      const last = await insertSchedule(client, id, { dueIn: '2 hours' });
      return [await insertSchedule(client, id), last];
    });
    const { description } = await api().data<{
      description: { fields: { description: string }[] };
    }>('{ description: __type(name: "UpdateFeatureFlagPayload") { fields { description } } }');
    const [, asked = ''] = /`(schedules.*)`/.exec(description.fields[1]?.description ?? '') ?? [];
    const update = UPDATE.replace(FIELDS, `${asked} { nodes { id } }`);
    expect(await api().data(update, { id, patch: { enabled: true } })).toEqual({
      updateFeatureFlag: {
        featureFlag: { schedules: { nodes: later.map((each) => ({ id: each.id })) } },
      },
    });
  });

  it('refuses an unknown flag, one of another environment, an empty patch and bad values', async () => {
    const { id } = await insert();
    const patch = { enabled: true };
    expect(await api().codeOf(UPDATE, { id: randomUUID(), patch })).toBe('flag_not_found');
    expect(
      await api().codeOf(UPDATE, { id, patch }, adminToken({ environments: ['staging'] })),
    ).toBe('flag_not_found');
    expect(await api().codeOf(UPDATE, { id, patch: {} })).toBe('invalid_value');
    expect(await api().codeOf(UPDATE, { id, patch: { enabled: null } })).toBe('invalid_value');
    expect(await api().codeOf(UPDATE, { id, patch: { flagKey: 'other' } })).toBe('invalid_value');
    expect(await api().codeOf(UPDATE, { id, patch: { rolloutPercentage: 101 } })).toBe(
      'invalid_value',
    );
    expect(one(await flagsOf(key))).toMatchObject({ enabled: false, revision: '1' });
  });

  it.each([
    ['viewer', viewerToken()],
    ['auditor', auditorToken()],
  ])('is forbidden to a %s, as is createFeatureFlag', async (_role, token) => {
    const { id } = await insert();
    expect(await api().codeOf(UPDATE, { id, patch: { enabled: true } }, token)).toBe('forbidden');
    expect(await api().codeOf(CREATE, { flag: { flagKey: 'theirs' } }, token)).toBe('forbidden');
    expect(one(await flagsOf(key))).toMatchObject({ enabled: false });
    expect(await flagsOf('theirs')).toHaveLength(0);
  });
});

describe('reasons', () => {
  const reasons = async (flagKey: string) => {
    const { auditEvents } = await api().data<{
      auditEvents: { nodes: { eventType: string; metadata: { reason?: string } }[] };
    }>(
      `query ($flagKey: String!) {
        auditEvents(condition: { flagKey: $flagKey }, orderBy: [OCCURRED_AT_ASC]) { nodes { eventType metadata } }
      }`,
      { flagKey },
    );
    return auditEvents.nodes.map(({ eventType, metadata }) => [eventType, metadata.reason]);
  };

  it('are each mutation’s own, in one operation too', async () => {
    const { id } = await insert();
    await api().data(
      `mutation ($id: UUID!, $key: String!, $new: String!, $at: Datetime!, $why: String) {
        a: createFeatureFlag(input: { featureFlag: { flagKey: $new }, reason: "  made " }) { clientMutationId }
        b: updateFeatureFlag(input: { id: $id, patch: { enabled: true }, reason: $why }) { clientMutationId }
        c: updateFeatureFlag(input: { id: $id, patch: { enabled: false } }) { clientMutationId }
        d: scheduleFlagChange(input: { flagKey: $key, scheduledAt: $at, updates: { enabled: true }, reason: "later" }) { clientMutationId }
        e: updateFeatureFlag(input: { id: $id, patch: { enabled: true } }) { clientMutationId }
      }`,
      { id, key, new: `${key}-new`, at: inMinutes(), why: 'ticket "7" 🎉' },
    );
    expect(await reasons(`${key}-new`)).toEqual([['feature_flag.created', 'made']]);
    expect(await reasons(key)).toEqual([
      ['feature_flag.created', undefined],
      ['feature_flag.updated', 'ticket "7" 🎉'],
      ['feature_flag.updated', undefined],
      ['flag_schedule.created', 'later'],
      ['feature_flag.updated', undefined],
    ]);
  });

  it.each(['two\nlines', 'x'.repeat(501)])('that are none change nothing: %j', async (reason) => {
    const { id } = await insert();
    const update = `mutation ($id: UUID!, $reason: String) {
      updateFeatureFlag(input: { id: $id, patch: { enabled: true }, reason: $reason }) { clientMutationId }
    }`;
    const schedule = `mutation ($key: String!, $at: Datetime!, $reason: String) {
      scheduleFlagChange(input: { flagKey: $key, scheduledAt: $at, updates: { enabled: true }, reason: $reason }) { clientMutationId }
    }`;
    expect(await api().codeOf(update, { id, reason })).toBe('invalid_value');
    expect(await api().codeOf(schedule, { key, at: inMinutes(), reason })).toBe('invalid_value');
    expect(await reasons(key)).toEqual([['feature_flag.created', undefined]]);
  });
});
