import { readdir, readFile } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import { useDatabase, withRollback } from '../support/database.ts';
import { schemaDump } from '../support/schema_dump.ts';

const MIGRATIONS = new URL('../../migrations/', import.meta.url);
const FIXTURES = await readdir(new URL('fixtures/', MIGRATIONS));
const database = useDatabase();

function read(path: string): Promise<string> {
  return readFile(new URL(path, MIGRATIONS), 'utf8');
}

describe('the database has not drifted from migrations/fixtures', () => {
  test.for(FIXTURES)('%s, run again, changes nothing', async (fixture) => {
    const { before, after } = await withRollback(database, async (client) => {
      const before = await schemaDump(client);
      await client.query(await read(`fixtures/${fixture}`));
      return { before, after: await schemaDump(client) };
    });
    expect(after).toBe(before);
  });

  test('the comparison sees a function that was changed by hand', async () => {
    const { before, after } = await withRollback(database, async (client) => {
      const before = await schemaDump(client);
      await client.query(
        `create or replace function app_private.tg__refuse() returns trigger language plpgsql
         set search_path to pg_catalog, pg_temp as $$ begin return null; end $$`,
      );
      return { before, after: await schemaDump(client) };
    });
    expect(after).not.toBe(before);
  });
});

test('every fixture is part of a migration', async () => {
  const committed = await readdir(new URL('committed/', MIGRATIONS));
  const texts = await Promise.all(committed.map((name) => read(`committed/${name}`)));
  const all = [...texts, await read('current.sql')].join('\n');
  const missing = FIXTURES.filter(
    (fixture) =>
      !all.includes(`--! Included ${fixture}\n`) && !all.includes(`--!include ${fixture}\n`),
  );
  expect(missing).toEqual([]);
});

test('the newest inclusion of each fixture is the file as it is', async () => {
  const committed = (await readdir(new URL('committed/', MIGRATIONS))).toSorted();
  const texts = await Promise.all(committed.map((name) => read(`committed/${name}`)));
  const current = await read('current.sql');
  for (const fixture of FIXTURES) {
    if (current.includes(`--!include ${fixture}\n`)) continue;
    const parts = texts.join('\n').split(`--! Included ${fixture}\n`);
    const newest = parts.at(-1)?.split(`--! EndIncluded ${fixture}`)[0];
    expect(newest?.trim(), fixture).toBe((await read(`fixtures/${fixture}`)).trim());
  }
});
