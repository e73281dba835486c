import { readdir, readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import {
  readMigration,
  readReleases,
  refreshedMigrations,
} from '../../scripts/refresh_migrations.ts';
import { useDatabase, withRollback } from '../support/database.ts';
import { schemaDump } from '../support/schema_dump.ts';

const MIGRATIONS = new URL('../../migrations/', import.meta.url);
const FIXTURES = (await readdir(new URL('fixtures/', MIGRATIONS), { recursive: true })).filter(
  (name) => name.endsWith('.sql') && name !== 'all.sql',
);
/** No object, but the beginning of every migration. */
const LOCKS = 'platform/locks.sql';

const database = useDatabase();

function read(path: string): Promise<string> {
  return readFile(new URL(path, MIGRATIONS), 'utf8');
}

describe('the database has not drifted from migrations/fixtures', () => {
  let before: string;

  beforeAll(async () => {
    before = await withRollback(database, schemaDump);
  });

  test.for(FIXTURES)('%s, run again, changes nothing', async (fixture) => {
    const after = await withRollback(database, async (client) => {
      await client.query(await read(`fixtures/${fixture}`));
      return schemaDump(client);
    });
    expect(after).toBe(before);
  });

  test('the comparison sees a function that somebody changed', async () => {
    const after = await withRollback(database, async (client) => {
      await client.query(
        `create or replace function app_private.tg__reject_write() returns trigger language plpgsql
         set search_path to pg_catalog, pg_temp as $$ begin return null; end $$`,
      );
      return schemaDump(client);
    });
    expect(after).not.toBe(before);
  });
});

test('every fixture is in all.sql, which is the order', async () => {
  const all = await read('fixtures/all.sql');
  const missing = FIXTURES.filter(
    (fixture) => fixture !== LOCKS && !all.includes(`--!include ${fixture}\n`),
  );
  expect(missing, 'include these fixtures in fixtures/all.sql').toEqual([]);
});

test('migrations that aren’t released hold the fixtures as they are', async () => {
  for (const { file, text } of await refreshedMigrations())
    expect(await readFile(file, 'utf8'), `${file} is stale: npm run schema writes it.`).toBe(text);
});

test('each fixture is, as it is now, in the newest migration that includes it', async () => {
  const text = (await refreshedMigrations()).map((migration) => migration.text).join('\n');
  const stale: string[] = [];
  for (const fixture of FIXTURES) {
    const begin = `--! Included ${fixture}\n`;
    const newest = text.slice(text.lastIndexOf(begin) + begin.length);
    if (!newest.startsWith(`${(await read(`fixtures/${fixture}`)).trim()}\n--! EndIncluded`))
      stale.push(fixture);
  }
  expect(
    stale,
    'write `--!include` of these into a migration that isn’t released (migrations/README.md), then `npm run schema`',
  ).toEqual([]);
});

test('released migrations are final', async () => {
  const hashes = new Map(
    (await refreshedMigrations()).map(({ file, hash }) => [basename(file), hash]),
  );
  for (const { version, migrations } of await readReleases())
    for (const [file, hash] of Object.entries(migrations))
      expect(
        hashes.get(file),
        `${file} was released with ${version}: put the change into a new migration`,
      ).toBe(hash);
});

test('every migration begins with the locks of all tables', async () => {
  const migrations = await refreshedMigrations();
  // One without a transaction is one statement, which takes what it needs.
  for (const { file, text } of migrations.filter((m) => !m.text.includes('--! no-transaction')))
    expect(text, file).toMatch(
      /^(--! .*\n)+\n--! Included platform\/locks\.sql\n[^]*--! EndIncluded platform\/locks\.sql\n/,
    );
});

test('a new migration needs no headers: its name is its message', () => {
  const body = '--!include platform/locks.sql\n';
  expect(readMigration('000004-owner-of-flags.sql', body)).toEqual({
    message: 'Owner of flags',
    body,
  });
  expect(() => readMigration('000004-owner.sql', `--! Message: Owner\n\n${body}`)).toThrow(
    '000004-owner.sql: write the headers Previous, Hash and Message, in this order, or none.',
  );
});
