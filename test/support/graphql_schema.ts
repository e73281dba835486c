import '../../src/graphql/environment.ts';

import type {} from 'postgraphile';
import { makeSchema } from 'postgraphile/graphile-build';
import { lexicographicSortSchema, printSchema } from 'postgraphile/graphql';

import { makeReader } from '../../src/graphql/live/reader.ts';
import { makeService } from '../../src/graphql/pg_service.ts';
import { preset } from '../../src/graphql/schema/preset.ts';
import { makePool } from '../../src/postgres/pool.ts';
import { makeTestLog } from './log.ts';

/**
 * The schema of a database as sorted SDL, for schema/halyard.graphql.
 *
 * @param databaseUrl the authenticator's URL: what its roles may not do isn't in the schema
 * @param of the API's preset by default
 */
export async function printGraphqlSchema(
  databaseUrl: string,
  of: GraphileConfig.Preset = preset,
): Promise<string> {
  const { log } = makeTestLog();
  const pool = makePool(databaseUrl, { name: 'halyard-schema', max: 2, log });
  try {
    const { schema } = await makeSchema({
      extends: [of],
      pgServices: [makeService(pool, makeReader(pool), undefined)],
    });
    return `${printSchema(lexicographicSortSchema(schema))}\n`;
  } finally {
    await pool.end();
  }
}
