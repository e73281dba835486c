import { readdir, readFile, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { calculateHash } from 'graphile-migrate/dist/hash.js';

const MIGRATIONS = fileURLToPath(new URL('../migrations/', import.meta.url));
const RELEASED = join(MIGRATIONS, 'released.json');
const INCLUDE = /^--!include (\S+)$/gm;
const INCLUDED = /^--! Included (\S+)\n[\s\S]*?^--! EndIncluded \1$/gm;

/** A committed migration, as it should be on disk. */
export interface Migration {
  /** Its path. */
  readonly file: string;
  readonly hash: string;
  readonly text: string;
}

/** A version that was released, and the hashes of the migrations that were new in it, by file. */
export interface Release {
  readonly version: string;
  readonly migrations: Readonly<Record<string, string>>;
}

/** The releases so far, oldest first. Their migrations are final. */
export async function readReleases(): Promise<Release[]> {
  return JSON.parse(await readFile(RELEASED, 'utf8')) as Release[];
}

/**
 * The committed migrations, those that aren't released with the fixtures as they are now in place of what each includes, and all with
 * the hashes of what they are: a released one that was changed has another hash than `readReleases()` says.
 */
export async function refreshedMigrations(): Promise<Migration[]> {
  const folder = join(MIGRATIONS, 'committed');
  const released = new Set(
    (await readReleases()).flatMap(({ migrations }) => Object.keys(migrations)),
  );
  const migrations: Migration[] = [];
  let previous: string | null = null;
  for (const file of (await readdir(folder)).toSorted()) {
    const { message, body } = readMigration(file, await readFile(join(folder, file), 'utf8'));
    const included = released.has(file)
      ? body
      : await compileIncludes(body.replace(INCLUDED, '--!include $1'));
    const hash = calculateHash(included, previous);
    migrations.push({
      file: join(folder, file),
      hash,
      text: `--! Previous: ${previous ?? '-'}\n--! Hash: ${hash}\n--! Message: ${message}\n\n${included}`,
    });
    previous = hash;
  }
  return migrations;
}

/** What a committed migration says, behind its headers. A new one has no headers yet: its name is its message. */
export function readMigration(file: string, text: string): { message: string; body: string } {
  const [, message, body] =
    /^--! Previous: .*\n--! Hash: .*\n--! Message: (.*)\n\n([\s\S]*)$/.exec(text) ?? [];
  if (message !== undefined && body !== undefined) return { message, body };
  if (/^--! (Previous|Hash|Message)/.test(text))
    throw new Error(
      `${file}: write the headers Previous, Hash and Message, in this order, or none.`,
    );
  const words = basename(file, '.sql').replace(/^\d+-/, '').replaceAll('-', ' ');
  return { message: words.charAt(0).toUpperCase() + words.slice(1), body: text };
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

/** Makes the migrations that aren't released yet final, as those of this version. */
async function release(version: string): Promise<void> {
  const releases = await readReleases();
  const earlier = new Set(releases.flatMap(({ migrations }) => Object.keys(migrations)));
  const migrations = (await refreshedMigrations())
    .map(({ file, hash }) => [basename(file), hash] as const)
    .filter(([file]) => !earlier.has(file));
  releases.push({ version, migrations: Object.fromEntries(migrations) });
  await writeFile(RELEASED, `${JSON.stringify(releases, null, 2)}\n`);
}

if (import.meta.main) {
  for (const { file, text } of await refreshedMigrations()) await writeFile(file, text);
  const [, , option, version] = process.argv;
  if (option === '--release' && version !== undefined) await release(version);
}
