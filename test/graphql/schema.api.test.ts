import { buildSchema, getNamedType, isInputObjectType } from 'postgraphile/graphql';
import type { GraphQLSchema } from 'postgraphile/graphql';
import { beforeAll, describe, expect, it } from 'vitest';

import { SCHEDULABLE_FIELDS } from '../../src/flags/fields.ts';
import { STATE_FUNCTIONS } from '../../src/graphql/schema/states.ts';
import { preset } from '../../src/graphql/schema/preset.ts';
import { useDatabase } from '../support/database.ts';
import { printGraphqlSchema } from '../support/graphql_schema.ts';

const database = useDatabase();

let text: string;
let schema: GraphQLSchema;

beforeAll(async () => {
  text = await printGraphqlSchema(database.authenticatorUrl);
  schema = buildSchema(text);
});

const fieldsOf = (type: string) => {
  const found = schema.getType(type);
  if (found === undefined || !('getFields' in found)) throw new Error(`There is no type ${type}.`);
  return found.getFields();
};
const namesOf = (type: string) => Object.keys(fieldsOf(type)).sort();

describe('the GraphQL schema', () => {
  it('is the one in schema/halyard.graphql; npm run schema writes it', async () => {
    await expect(
      text,
      'schema/halyard.graphql differs from the API: run `npm run schema` and commit the result',
    ).toMatchFileSnapshot('../../schema/halyard.graphql');
  });

  // As of the release before, which starts again, or is gone back to, behind a migration.
  it('of an API that knows none of the functions that plans call shows none of them', async () => {
    const plain = buildSchema(
      await printGraphqlSchema(database.authenticatorUrl, { ...preset, plugins: [] }),
    );
    const shown = Object.keys(plain.getQueryType()?.getFields() ?? {});
    expect(shown).toContain('serverTime');
    const called = [...STATE_FUNCTIONS, 'trail_status'].map((name) =>
      name.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase()),
    );
    expect(shown.filter((name) => called.includes(name))).toEqual([]);
  });

  it('has these queries, mutations and subscriptions, and no others', () => {
    expect(namesOf('Query')).toEqual([
      'auditEvents',
      'auditProof',
      'changesPerDay',
      'environment',
      'environments',
      'featureFlag',
      'featureFlagByEnvironmentAndFlagKey',
      'featureFlagSchedule',
      'featureFlagSchedules',
      'featureFlags',
      'flagChanges',
      'flagStateAt',
      'me',
      'plan',
      'plans',
      'schedulesBetween',
      'serverTime',
      'trailStatus',
      'upcomingChanges',
    ]);
    expect(namesOf('Mutation')).toEqual([
      ...['cancelFlagSchedule', 'cancelPlan', 'changeFlags', 'createEnvironment'],
      ...['createFeatureFlag', 'createPlan', 'dryRunEdit', 'dryRunPlan', 'dryRunResume'],
      'dryRunRevert',
      ...['editPlan', 'rescheduleFlagChange', 'resumeEnvironment', 'resumeSchedule'],
      ...['retryFlagSchedule', 'retryPlan', 'revertPlan', 'revertSchedule', 'revertSpan'],
      ...['scheduleFlagChange', 'stopEnvironment', 'updateFeatureFlag'],
    ]);
    expect(namesOf('Subscription')).toEqual([
      ...['auditEventsAdded', 'environmentsChanged', 'flagSchedulesChanged', 'flagsChanged'],
      'plansChanged',
    ]);
  });

  it('takes no stamp and no status in any input', () => {
    const inputs = Object.values(schema.getTypeMap()).filter(
      (type) => isInputObjectType(type) && !type.name.endsWith('Condition'),
    );
    const fields = inputs.flatMap(({ name }) => namesOf(name));
    expect(fields).toContain('scheduledAt');
    for (const stamp of [
      'createdBy',
      'cancelledBy',
      'cancelledAt',
      'status',
      'appliedAt',
      'createdAt',
      'updatedAt',
      'attempts',
      'revision',
    ])
      expect(fields).not.toContain(stamp);
  });

  it('has typed updates both ways, and requires what is required', () => {
    expect(String(fieldsOf('FeatureFlagSchedule').updates?.type)).toBe('FlagUpdates!');
    // By name in schema/halyard.graphql.
    const fields = SCHEDULABLE_FIELDS.length;
    expect(namesOf('FlagUpdates')).toEqual(
      expect.arrayContaining(['enabled', 'rolloutPercentage']),
    );
    expect(namesOf('FlagUpdates')).toHaveLength(fields);
    expect(namesOf('FlagUpdatesInput')).toEqual(namesOf('FlagUpdates'));
    const types = (input: string) =>
      Object.fromEntries(
        Object.entries(fieldsOf(input)).map(([name, { type }]) => [name, String(type)]),
      );
    expect(types('ScheduleFlagChangeInput')).toMatchObject({
      flagKey: 'String!',
      environment: 'String',
      scheduledAt: 'Datetime!',
      updates: 'FlagUpdatesInput!',
    });
    expect(types('CancelFlagScheduleInput')).toMatchObject({ id: 'UUID!', reason: 'String' });
    expect(types('RescheduleFlagChangeInput')).toMatchObject({
      id: 'UUID!',
      scheduledAt: 'Datetime!',
    });
    expect(types('RetryFlagScheduleInput')).toMatchObject({ id: 'UUID!' });
  });

  it('limits every page', () => {
    for (const type of Object.values(schema.getTypeMap())) {
      if (!('getFields' in type) || isInputObjectType(type)) continue;
      for (const { type: fieldType, args } of Object.values(type.getFields())) {
        if (!getNamedType(fieldType).name.endsWith('Connection')) continue;
        expect(args.map(({ name }) => name).sort()).toEqual([
          'after',
          'condition',
          'first',
          'orderBy',
        ]);
        expect(String(args.find(({ name }) => name === 'first')?.type)).toBe('Int!');
      }
    }
  });

  it('explains every type and field of ours', () => {
    const undocumented = Object.values(schema.getTypeMap())
      .filter(({ name }) =>
        /^(Environment|CreateEnvironmentInput|FeatureFlag|AuditEvent|FlagUpdates|FlagSchedulesChanged|FlagsChanged|AuditEventsAdded|AuditEventSeal|TrailStatus|Query|Mutation|Subscription|\w+FlagSchedule\w*Input|\w+FlagChange\w*Input)$/.test(
          name,
        ),
      )
      .flatMap((type) => [
        ...(type.description ? [] : [type.name]),
        ...('getFields' in type
          ? Object.values(type.getFields())
              .filter(({ description }) => !description)
              .map(({ name }) => `${type.name}.${name}`)
          : []),
      ]);
    expect(undocumented).toEqual([]);
  });
});
