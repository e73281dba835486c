import { expect, test } from 'vitest';
import { useDatabase, withRollback } from '../support/database.ts';
import { schemaDump } from '../support/schema_dump.ts';

const database = useDatabase();

const HEAD = `-- Halyard's schemas as they are after all migrations, for reading and for review.
-- Generated: change migrations/ and run \`npm run schema\`, which writes this from the catalogs of a migrated database.
`;

test('schema/halyard.sql is what the migrations make', async () => {
  const dump = await withRollback(database, schemaDump);
  await expect(
    `${HEAD}\n${dump}`,
    'schema/halyard.sql differs from the database: run `npm run schema` and commit the result',
  ).toMatchFileSnapshot('../../schema/halyard.sql');
});
