import { readFile } from 'node:fs/promises';
import { beforeEach, describe, expect, it } from 'vitest';
import { useDatabase, withClient } from '../support/database.ts';
import { insertFlag, insertSchedule } from '../support/factory.ts';
import { useGraphql } from '../support/graphql.ts';
import { adminToken, auditorToken, viewerToken } from '../support/tokens.ts';

const database = useDatabase();
const api = useGraphql(database);

const FIELDS = 'id flagKey environment enabled rolloutPercentage description createdAt updatedAt';
const UPDATE = `mutation ($id: UUID!, $patch: FeatureFlagPatch!) {
  updateFeatureFlag(input: { id: $id, patch: $patch }) { featureFlag { ${FIELDS} } }
}`;
const BY_KEY = `query ($environment: String!, $key: String!) {
  featureFlagByEnvironmentAndFlagKey(environment: $environment, flagKey: $key) { ${FIELDS} }
}`;

let count = 0;
let key: string;

beforeEach(() => {
  count += 1;
  key = `graphql-flag-${count}`;
});

const insert = (changes: object = {}) =>
  withClient(database.ownerUrl, (client) => insertFlag(client, { flag_key: key, ...changes }));

describe('queries of flags', () => {
  it('find a flag by id and by key, with its schedules', async () => {
    const { id } = await insert();
    const query = `query ($id: UUID!) { featureFlag(id: $id) { flagKey schedules { totalCount nodes { id } } } }`;
    expect(await api().data(query, { id })).toEqual({
      featureFlag: { flagKey: key, schedules: { totalCount: 0, nodes: [] } },
    });
    const found = await api().data(BY_KEY, { environment: 'production', key }, viewerToken());
    expect(found).toMatchObject({ featureFlagByEnvironmentAndFlagKey: { id } });
  });

  it('show nothing of other environments', async () => {
    const { id } = await insert();
    const token = viewerToken({ environments: ['staging'] });
    const queries = `query ($id: UUID!, $key: String!) {
      featureFlag(id: $id) { id }
      featureFlags(condition: { flagKey: $key }) { totalCount nodes { id } }
      featureFlagSchedules { totalCount nodes { id } }
    }`;
    expect(await api().data(queries, { id, key }, token)).toEqual({
      featureFlag: null,
      featureFlags: { totalCount: 0, nodes: [] },
      featureFlagSchedules: { totalCount: 0, nodes: [] },
    });
  });

  it('are for auditors too, within the environments of the token', async () => {
    const { id } = await insert();
    const query = 'query ($id: UUID!) { featureFlag(id: $id) { id schedules { totalCount } } }';
    const found = { featureFlag: { id, schedules: { totalCount: 0 } } };
    expect(await api().data(query, { id }, auditorToken())).toEqual(found);
    const token = auditorToken({ environments: ['staging'] });
    expect(await api().data(query, { id }, token)).toEqual({ featureFlag: null });
  });

  it.for([
    '{ featureFlags(condition: { environment: "prodction" }) { nodes { id } } }',
    '{ featureFlagByEnvironmentAndFlagKey(environment: "prodction", flagKey: "any") { id } }',
    '{ auditEvents(condition: { environment: "prodction" }) { nodes { id } } }',
    'query { ...all } fragment all on Query { featureFlags(condition: { environment: "prodction" }) { totalCount } }',
    `mutation { createFeatureFlag(input: { featureFlag: { flagKey: "a", environment: "prodction" } }) { clientMutationId } }`,
    `mutation { scheduleFlagChange(input: { flagKey: "a", environment: "prodction", scheduledAt: "2090-01-01T00:00:00Z", updates: { enabled: true } }) { clientMutationId } }`,
  ])(
    'name the environments that there are, when they ask for an unknown one: %s',
    async (query) => {
      const { errors } = await api().post(query, {});
      expect(errors?.map(({ extensions, message }) => [extensions.code, message])).toEqual([
        [
          'environment_not_found',
          "There is no environment 'prodction'. You may see: development, elsewhere, large, listed, many, pages, production, staging.",
        ],
      ]);
    },
  );

  it('tell of an environment outside of the token no more than of one that there isn’t', async () => {
    const token = adminToken({ environments: ['staging'] });
    const query =
      'query ($name: String!) { featureFlags(condition: { environment: $name }) { totalCount } }';
    const messageFor = async (name: string) =>
      (await api().post(query, { name }, { token })).errors?.[0]?.message;
    // The API knows that production exists.
    await api().data(query, { name: 'production' });
    expect(await messageFor('production')).toBe(
      "There is no environment 'production'. You may see: staging.",
    );
    expect(await messageFor('prodction')).toBe(
      "There is no environment 'prodction'. You may see: staging.",
    );
  });

  it('go from page to page by cursor, in the order that is asked for', async () => {
    const environment = 'pages';
    for (const name of ['c', 'a', 'd', 'b']) await insert({ flag_key: name, environment });
    const page = `query ($after: Cursor) {
      featureFlags(first: 3, after: $after, orderBy: [FLAG_KEY_DESC], condition: { environment: "pages" }) {
        nodes { flagKey }
        pageInfo { endCursor hasNextPage }
      }
    }`;
    interface Page {
      featureFlags: {
        nodes: { flagKey: string }[];
        pageInfo: { endCursor: string; hasNextPage: boolean };
      };
    }
    const { featureFlags: first } = await api().data<Page>(page);
    const { featureFlags: second } = await api().data<Page>(page, {
      after: first.pageInfo.endCursor,
    });
    expect([first, second].map(({ nodes }) => nodes.map(({ flagKey }) => flagKey))).toEqual([
      ['d', 'c', 'b'],
      ['a'],
    ]);
    expect([first.pageInfo.hasNextPage, second.pageInfo.hasNextPage]).toEqual([true, false]);
    for (const after of ['nonsense', '', 'W10=', first.pageInfo.endCursor.slice(0, -4)])
      expect(await api().codeOf(page, { after })).toBe('invalid_value');
  });
});

const PAGE = await readFile(new URL('../../docs/queries.md', import.meta.url), 'utf8');
const ASKED = [...PAGE.matchAll(/```graphql\n([^`]*)```/g)].map(([, query = '']) => query);

it.each(ASKED)('docs/queries.md asks: %s', async (query) => {
  const [connection] = Object.values(await api().data<Record<string, { nodes: unknown[] }>>(query));
  expect(connection?.nodes).toBeInstanceOf(Array);
});

describe('auditEvents', () => {
  const EVENTS = `query ($condition: AuditEventCondition, $orderBy: [AuditEventOrderBy!] = [OCCURRED_AT_DESC]) {
    auditEvents(condition: $condition, orderBy: $orderBy) {
      nodes { id eventType occurredAt level flagKey environment scheduleId adminUserId adminEmail requestId metadata }
    }
  }`;
  interface Events {
    auditEvents: {
      nodes: { eventType: string; occurredAt: string; metadata: { flagKey: string } }[];
    };
  }
  const types = ({ auditEvents }: Events) => auditEvents.nodes.map(({ eventType }) => eventType);

  it('tell what happened to a flag, newest first, to admins and auditors', async () => {
    const { id } = await insert();
    await api().data(UPDATE, { id, patch: { enabled: true } });
    for (const token of [adminToken(), auditorToken()]) {
      const events = await api().data<Events>(EVENTS, { condition: { flagKey: key } }, token);
      expect(types(events)).toEqual(['feature_flag.updated', 'feature_flag.created']);
      expect(events.auditEvents.nodes[0]).toMatchObject({ adminUserId: 'alice', level: 'info' });
      expect(events.auditEvents.nodes[0]?.metadata.flagKey).toBe(key);
      expect(events.auditEvents.nodes[0]?.occurredAt).toMatch(/^\d{4}-.*(Z|[+-]\d\d:\d\d)$/);
    }
  });

  it('come newest first where no order is asked for: a flag’s, and a schedule’s', async () => {
    const { id } = await insert();
    const schedule = await withClient(database.ownerUrl, async (client) => {
      const made = await insertSchedule(client, id);
      await client.query(
        `update app_public.feature_flag_schedules set status = 'cancelled' where id = $1`,
        [made.id],
      );
      return made;
    });
    const ask = async (condition: object) =>
      types(
        await api().data<Events>(
          'query ($condition: AuditEventCondition) { auditEvents(condition: $condition) { nodes { eventType } } }',
          { condition },
        ),
      );
    const ofSchedule = ['flag_schedule.cancelled', 'flag_schedule.created'];
    expect(await ask({ scheduleId: schedule.id })).toEqual(ofSchedule);
    expect(await ask({ flagKey: key, environment: 'production' })).toEqual([
      ...ofSchedule,
      'feature_flag.created',
    ]);
  });

  it('can be narrowed by type, admin, environment and time, and turned round', async () => {
    const { id } = await insert();
    await api().data(UPDATE, { id, patch: { enabled: true } });
    const of = async (condition: object, orderBy?: string[]) =>
      types(
        await api().data<Events>(EVENTS, { condition: { flagKey: key, ...condition }, orderBy }),
      );
    expect(await of({ eventType: 'feature_flag.updated' })).toEqual(['feature_flag.updated']);
    expect(await of({ adminUserId: 'alice' })).toEqual(['feature_flag.updated']);
    expect(await of({ environment: 'staging' })).toEqual([]);
    expect(await of({}, ['OCCURRED_AT_ASC'])).toEqual([
      'feature_flag.created',
      'feature_flag.updated',
    ]);
    expect(await of({ occurredFrom: '2020-01-01T00:00:00Z' })).toHaveLength(2);
    expect(await of({ occurredFrom: '2090-01-01T00:00:00Z' })).toHaveLength(0);
    expect(await of({ occurredBefore: '2020-01-01T00:00:00+02:00' })).toHaveLength(0);
    for (const occurredFrom of ['yesterday', null])
      expect(await api().codeOf(EVENTS, { condition: { occurredFrom } })).toBe('invalid_value');
  });

  it('are not for viewers, nor for other environments', async () => {
    await insert();
    expect(await api().codeOf(EVENTS, {}, viewerToken())).toBe('forbidden');
    for (const makeToken of [adminToken, auditorToken]) {
      const token = makeToken({ environments: ['staging'] });
      expect(
        types(await api().data<Events>(EVENTS, { condition: { flagKey: key } }, token)),
      ).toEqual([]);
    }
  });
});
