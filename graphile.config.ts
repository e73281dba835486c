import './src/graphql/environment.ts';

import type {} from 'postgraphile';
import { makePgService } from 'postgraphile/adaptors/pg';

import { preset, SCHEMAS } from './src/graphql/schema/preset.ts';
import { loadProcessConfig } from './src/config/config.ts';

const { authDatabaseUrl } = loadProcessConfig('schema');

/**
 * The preset that the graphile command line tools read. Without AUTH_DATABASE_URL it has no database, and is still good
 * for what needs none.
 */
const config: GraphileConfig.Preset = {
  extends: [preset],
  pgServices:
    authDatabaseUrl === null
      ? []
      : [makePgService({ connectionString: authDatabaseUrl, schemas: SCHEMAS })],
};

export default config;
