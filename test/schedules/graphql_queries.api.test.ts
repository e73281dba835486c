import { beforeEach, describe, expect, it } from 'vitest';
import { useDatabase, withClient } from '../support/database.ts';
import { insertFlag, insertSchedule, one } from '../support/factory.ts';
import { inMinutes, useGraphql } from '../support/graphql.ts';
import { adminToken, auditorToken, viewerToken } from '../support/tokens.ts';
import {
  SCHEDULE,
  CANCEL,
  RESCHEDULE,
  RETRY,
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

describe('roles and environments', () => {
  const mutations = (id: string) =>
    [
      [
        SCHEDULE,
        { input: { flagKey: flag.flag_key, scheduledAt: inMinutes(), updates: { enabled: true } } },
      ],
      [CANCEL, { id }],
      [RESCHEDULE, { id, at: inMinutes() }],
      [RETRY, { id }],
    ] as const;

  it.each([
    ['viewer', viewerToken()],
    ['auditor', auditorToken()],
  ])('forbid every mutation to a %s', async (_role, token) => {
    const { id } = await withClient(database.ownerUrl, (client) => insertSchedule(client, flag.id));
    for (const [query, variables] of mutations(id))
      expect(await api().codeOf(query, variables, token)).toBe('forbidden');
    expect(one(await rowsOf(database, flag.id))).toMatchObject({
      status: 'pending',
      revision: '1',
    });
  });

  it('hide other environments from every mutation', async () => {
    const token = adminToken({ environments: ['staging'] });
    const { id } = await withClient(database.ownerUrl, (client) => insertSchedule(client, flag.id));
    const codes = [];
    for (const [query, variables] of mutations(id))
      codes.push(await api().codeOf(query, variables, token));
    expect(codes).toEqual([
      'environment_not_found',
      'schedule_not_found',
      'schedule_not_found',
      'schedule_not_found',
    ]);
    expect(one(await rowsOf(database, flag.id))).toMatchObject({
      status: 'pending',
      revision: '1',
    });
  });
});

describe('featureFlagSchedules', () => {
  const LIST = `query ($flagId: UUID, $status: String, $from: Datetime, $before: Datetime, $first: Int = 50, $after: Cursor) {
    featureFlagSchedules(first: $first, after: $after, condition: {
      flagId: $flagId, status: $status, scheduledFrom: $from, scheduledBefore: $before }) {
      totalCount
      nodes { id status createdBy updates { enabled } flag { flagKey } }
      pageInfo { endCursor hasNextPage }
    }
  }`;
  interface List {
    featureFlagSchedules: {
      totalCount: number;
      nodes: { id: string; createdBy: string | null }[];
      pageInfo: { endCursor: string; hasNextPage: boolean };
    };
  }

  it('lists every status, newest first, with null names on rows from before', async () => {
    const old = await withClient(database.ownerUrl, (client) => insertSchedule(client, flag.id));
    const cancelled = await schedule();
    await api().data(CANCEL, { id: cancelled.id });
    const { featureFlagSchedules } = await api().data<List>(
      LIST.replace('scheduledFrom: $from, scheduledBefore: $before', '')
        .replace('status: $status,', '')
        .replace('$status: String, $from: Datetime, $before: Datetime, ', ''),
      {
        flagId: flag.id,
      },
    );
    expect(featureFlagSchedules.nodes.map(({ id, createdBy }) => [id, createdBy])).toEqual([
      [cancelled.id, 'alice'],
      [old.id, null],
    ]);
  });

  it('can be narrowed to those of one environment and of one flag, and come by time', async () => {
    const [here, there] = await withClient(database.ownerUrl, async (client) => {
      const other = await insertFlag(client, {
        flag_key: flag.flag_key,
        environment: 'staging',
      });
      const later = await insertSchedule(client, flag.id, { dueIn: '2 hours' });
      const first = await insertSchedule(client, flag.id);
      return [[first.id, later.id], [(await insertSchedule(client, other.id)).id]] as const;
    });
    const query = `query ($condition: FeatureFlagScheduleCondition) {
      featureFlagSchedules(condition: $condition, orderBy: [SCHEDULED_AT_ASC], first: 100) { nodes { id } totalCount }
    }`;
    const ask = async (condition: object, token?: string) => {
      const data = await api().data<List>(query, { condition }, token);
      return data.featureFlagSchedules.nodes.map(({ id }) => id);
    };
    const flagKey = flag.flag_key;
    expect(await ask({ flagKey, environment: 'production' })).toEqual(here);
    expect(await ask({ flagKey, environment: 'staging' })).toEqual(there);
    expect((await ask({ flagKey })).toSorted()).toEqual([...here, ...there].toSorted());
    expect(await ask({ environment: 'staging' })).toEqual(expect.arrayContaining([...there]));
    expect(await ask({ environment: 'staging' })).not.toEqual(expect.arrayContaining([here[0]]));
    expect(await ask({ flagKey }, viewerToken({ environments: ['staging'] }))).toEqual(there);
    for (const name of ['flagKey', 'environment'])
      expect(await api().codeOf(query, { condition: { [name]: null } })).toBe('invalid_value');
  });
});
