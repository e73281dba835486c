import { format } from 'prettier';
import { expect, test } from 'vitest';
import { readEventTypes } from '../../src/audit/verification/event_types.ts';
import { readFunctions } from '../../src/audit/verification/functions.ts';
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

test('the functions that `audit verify` expects are those that the migrations make', async () => {
  const functions = await withRollback(database, readFunctions);
  expect(Object.keys(functions).length).toBeGreaterThan(150);
  await expect(
    `${JSON.stringify(functions, null, 2)}\n`,
    'src/audit/verification/functions.json differs from the database: run `npm run schema` and commit the result',
  ).toMatchFileSnapshot('../../src/audit/verification/functions.json');
});

test('the event types that the code knows are those of the database', async () => {
  const types = await withRollback(database, readEventTypes);
  await expect(
    await format(JSON.stringify(types), { parser: 'json', printWidth: 100 }),
    'src/audit/event_types.json differs from audit.event_types: run `npm run schema` and commit the result',
  ).toMatchFileSnapshot('../../src/audit/event_types.json');
});
