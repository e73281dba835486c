import { cp, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { calculateHash } from 'graphile-migrate/dist/hash.js';
import { onTestFinished } from 'vitest';
import { compileIncludes, readReleases } from '../../../scripts/refresh_migrations.ts';

const COMMITTED = fileURLToPath(new URL('../../../migrations/committed', import.meta.url));

/** A folder with Halyard's migrations, to which a test adds its own. */
export interface Migrations {
  readonly folder: string;
  /** Adds a migration after the newest, with what it includes; returns its name in the database. */
  add(body: string): Promise<string>;
}

/**
 * Copies the committed migrations; the copy is removed after the test.
 *
 * @param until the release of which only its migrations and those before are copied; all by default
 */
export async function copyMigrations(until?: string): Promise<Migrations> {
  const folder = await mkdtemp(join(tmpdir(), 'halyard-migrations-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  const committed = join(folder, 'committed');
  await cp(COMMITTED, committed, { recursive: true });
  if (until !== undefined) {
    const newest = await newestOf(until);
    for (const file of await readdir(committed)) if (file > newest) await rm(join(committed, file));
  }
  await writeFile(join(folder, 'current.sql'), '');
  return {
    folder,
    async add(body) {
      const files = (await readdir(committed)).toSorted();
      const newest = await readFile(join(committed, files.at(-1) ?? ''), 'utf8');
      const [, previous = ''] = /^--! Hash: (.*)$/m.exec(newest) ?? [];
      const text = await compileIncludes(`${body.trim()}\n`);
      const name = `${String(files.length + 1).padStart(6, '0')}.sql`;
      await writeFile(
        join(committed, name),
        `--! Previous: ${previous}\n--! Hash: ${calculateHash(text, previous)}\n\n${text}`,
      );
      return name;
    },
  };
}

/** The newest migration of a release. */
async function newestOf(version: string): Promise<string> {
  const release = (await readReleases()).find((one) => one.version === version);
  if (release === undefined) throw new Error(`There is no release ${version}.`);
  return Object.keys(release.migrations).toSorted().at(-1) ?? '';
}
