import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { calculateHash } from 'graphile-migrate/dist/hash.js';

const MIGRATIONS = fileURLToPath(new URL('../migrations/', import.meta.url));
const INCLUDE = /^--!include (\S+)$/gm;
const INCLUDED = /^--! Included (\S+)\n[\s\S]*?^--! EndIncluded \1$/gm;

/** A committed migration, as it should be on disk. */
export interface Migration {
  readonly file: string;
  readonly text: string;
}

/**
 * The committed migrations with the fixtures as they are now in place of what each includes, and with the hashes of that.
 * Until version 0.1.0 is tagged nothing is released, so a change of SQL goes into the migration that has the object.
 */
export async function refreshedMigrations(): Promise<Migration[]> {
  const folder = join(MIGRATIONS, 'committed');
  const migrations: Migration[] = [];
  let previous: string | null = null;
  for (const file of (await readdir(folder)).toSorted()) {
    const [, message, body] =
      /^--! Previous: .*\n--! Hash: .*\n--! Message: (.*)\n\n([\s\S]*)$/.exec(
        await readFile(join(folder, file), 'utf8'),
      ) ?? [];
    if (message === undefined || body === undefined)
      throw new Error(`${file} doesn't begin with the headers Previous, Hash and Message.`);
    const included = await compileIncludes(body.replace(INCLUDED, '--!include $1'));
    const hash = calculateHash(included, previous);
    migrations.push({
      file: join(folder, file),
      text: `--! Previous: ${previous ?? '-'}\n--! Hash: ${hash}\n--! Message: ${message}\n\n${included}`,
    });
    previous = hash;
  }
  return migrations;
}

/** A migration's text with the fixtures in place of what it includes, as graphile-migrate's own compiler writes it. */
export async function compileIncludes(text: string): Promise<string> {
  let result = '';
  let end = 0;
  for (const match of text.matchAll(INCLUDE)) {
    const [line, name = ''] = match;
    const fixture = await readFile(join(MIGRATIONS, 'fixtures', name), 'utf8');
    const content = (await compileIncludes(fixture)).trim();
    result += `${text.slice(end, match.index)}--! Included ${name}\n${content}\n--! EndIncluded ${name}`;
    end = match.index + line.length;
  }
  return result + text.slice(end);
}

if (import.meta.main)
  for (const { file, text } of await refreshedMigrations()) await writeFile(file, text);
