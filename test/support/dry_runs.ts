import { expect } from 'vitest';
import { dryRunSchema } from '../../src/schemas.ts';
import { contentsOf, type TestApi } from './api.ts';
import type { TestDatabase } from './database.ts';
import type { TestApi as TestGraphql } from './graphql.ts';
import { adminToken } from './tokens.ts';

const DRY_RUN = `dryRun {
  changes { flagKey environment before { enabled rolloutPercentage } after { enabled rolloutPercentage } }
  events conflicts { flagKey environment field kind expected found at scheduleId planId }
}`;

interface DryRun {
  readonly changes: readonly { readonly flagKey: string; readonly after: object }[];
  readonly events: readonly { readonly eventType: string }[];
  readonly conflicts: readonly { readonly field: string }[];
}

/** alice's dry runs, which must write nothing. */
export function useDryRuns(database: TestDatabase, api: TestApi, graphql: () => TestGraphql) {
  return {
    /** By REST. */
    dryRun: async (target: string, json?: object) => {
      const before = await contentsOf(database);
      const answer = await api.call(target, { token: adminToken(), json });
      expect([answer.status, answer.text]).toEqual([200, expect.any(String)]);
      expect(await contentsOf(database)).toBe(before);
      return dryRunSchema.parse(answer.body);
    },
    /** By GraphQL. */
    dryRunBy: async (mutation: string, input: object): Promise<DryRun> => {
      const before = await contentsOf(database);
      const type = `${mutation[0]?.toUpperCase() ?? ''}${mutation.slice(1)}Input!`;
      const data = await graphql().data<Record<string, { dryRun: DryRun }>>(
        `mutation ($input: ${type}) { ${mutation}(input: $input) { ${DRY_RUN} } }`,
        { input },
      );
      expect(await contentsOf(database)).toBe(before);
      return data[mutation]?.dryRun ?? expect.unreachable();
    },
  };
}

/** The types of a dry run's events. */
export const eventTypes = ({ events }: { readonly events: readonly object[] }) =>
  events.map((event) => (event as { eventType: string }).eventType);
