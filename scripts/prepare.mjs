// @ts-check
// Builds the console, console/ into console/dist, with Vite: npm's `prepare`. Where Vite or console/ isn't, as after
// `npm ci --omit=dev`, it says so in one line and exits with 0, because an install must not fail for want of a web page. A build that
// fails exits with 1. `--if-stale` builds only when a source has changed since the last build, and is silent otherwise.
//
// npm may run this with the system's Node, from 20 on: plain JavaScript, and Vite is imported only when it is needed.
import { createHash, randomUUID } from 'node:crypto';
import {
  existsSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join, relative, resolve, sep } from 'node:path';
import { performance } from 'node:perf_hooks';
import process from 'node:process';
import { fileURLToPath, URL } from 'node:url';
import { brotliCompressSync, gzipSync } from 'node:zlib';

const ROOT = resolve(fileURLToPath(new URL('..', import.meta.url)));
const CONSOLE = join(ROOT, 'console');
const DIST = join(CONSOLE, 'dist');
/** Names what a build was made of. */
const STAMP = join(DIST, 'stamp.json');
/** Of the folders of builds that run, or were killed. */
const DRAFT = '.dist-';
/** Milliseconds after which a draft's build doesn't run any more. */
const ABANDONED_MS = 3_600_000;
const COMPRESSED = /\.(js|css|svg|json)$/;
const say = (/** @type {string} */ sentence) => process.stdout.write(`console: ${sentence}\n`);

if (!existsSync(join(CONSOLE, 'index.html'))) {
  say('there is no console/index.html, so nothing is built');
} else if (!process.argv.includes('--if-stale') || isStale()) {
  const vite = await importVite();
  if (vite === null) say('Vite isn’t installed, so the web page at /console is not built');
  else await build(vite);
}

/** @returns {Promise<typeof import('vite') | null>} null where it isn't installed, or this Node is too old for it */
async function importVite() {
  // Otherwise Vite takes over a NODE_ENV of development for the build.
  process.env.NODE_ENV = 'production';
  try {
    return await import('vite');
  } catch {
    return null;
  }
}

/** Builds into a folder of its own first: a server that reads the old build must not find half of the new one. */
async function build(/** @type {typeof import('vite')} */ vite) {
  const startedAt = performance.now();
  // Of a random name: several may build at once, also in containers, whose processes have the same ids.
  const draft = join(CONSOLE, `${DRAFT}${randomUUID()}`);
  const modules = new Set();
  const stop = () => {
    rmSync(draft, { recursive: true, force: true });
    // As a shell has it for a program that Ctrl-C ended.
    process.exit(130);
  };
  process.once('SIGTERM', stop).once('SIGINT', stop);
  try {
    removeAbandoned();
    const before = hashOf([]);
    await vite.build({
      root: CONSOLE,
      logLevel: 'warn',
      // Writes no file of its own into node_modules.
      configLoader: 'runner',
      // All that was read, also what is inlined and then left out of the output.
      plugins: [{ name: 'halyard:sources', moduleParsed: ({ id }) => void modules.add(id) }],
      build: { outDir: draft, emptyOutDir: true },
    });
    const names = ownFiles(modules).map((file) => relative(ROOT, file).replaceAll(sep, '/'));
    // Of a source that was changed meanwhile it isn't known whether the build has it.
    const hash = hashOf([]) === before ? hashOf(names) : null;
    const stamp = { hash, outside: names };
    writeFileSync(join(draft, 'stamp.json'), JSON.stringify(stamp));
    compress(join(draft, 'assets'));
    replace(draft);
  } catch (error) {
    say(`the build failed. ${error instanceof Error ? (error.stack ?? error.message) : error}`);
    process.exitCode = 1;
  } finally {
    rmSync(draft, { recursive: true, force: true });
  }
  if (process.exitCode !== 1) say(`built in ${Math.round(performance.now() - startedAt)} ms`);
}

/**
 * The files of this repository outside of console/ among modules, as those of halyard/schemas.
 *
 * @param {Set<string>} modules by their ids in Vite, which may have a query
 */
function ownFiles(modules) {
  const files = new Set([...modules].map((id) => id.split('?', 1)[0] ?? ''));
  const isOwn = (/** @type {string} */ file) =>
    file.startsWith(ROOT + sep) &&
    !file.startsWith(CONSOLE + sep) &&
    !file.includes(`${sep}node_modules${sep}`) &&
    existsSync(file);
  return [...files].filter(isOwn).sort();
}

/** Writes .br and .gz beside each asset that gains by them: once here costs less than at each request. */
function compress(/** @type {string} */ folder) {
  if (!existsSync(folder)) return;
  for (const name of readdirSync(folder)) {
    if (!COMPRESSED.test(name)) continue;
    const bytes = readFileSync(join(folder, name));
    writeFileSync(join(folder, `${name}.br`), brotliCompressSync(bytes));
    writeFileSync(join(folder, `${name}.gz`), gzipSync(bytes, { level: 9 }));
  }
}

/** Puts the draft in the place of the build that there is, and again when another process has put its own there meanwhile. */
function replace(/** @type {string} */ draft) {
  const old = `${draft}-old`;
  for (let isPlaced = false; !isPlaced;) {
    renameUnless(['ENOENT'], DIST, old);
    isPlaced = renameUnless(['ENOTEMPTY', 'EEXIST'], draft, DIST);
    rmSync(old, { recursive: true, force: true });
  }
}

/**
 * @param {string[]} codes of errors with which it isn't renamed, and that is known
 * @param {string} from
 * @param {string} to
 * @returns {boolean} whether it was renamed
 */
function renameUnless(codes, from, to) {
  try {
    renameSync(from, to);
    return true;
  } catch (error) {
    if (codes.includes(/** @type {NodeJS.ErrnoException} */ (error).code ?? '')) return false;
    throw error;
  }
}

/** Removes what builds that were killed have left. */
function removeAbandoned() {
  for (const name of readdirSync(CONSOLE)) {
    const path = join(CONSOLE, name);
    if (name.startsWith(DRAFT) && Date.now() - statSync(path).mtimeMs > ABANDONED_MS)
      rmSync(path, { recursive: true, force: true });
  }
}

function isStale() {
  try {
    const { hash, outside } = JSON.parse(readFileSync(STAMP, 'utf8'));
    return hash !== hashOf(outside);
  } catch {
    // No build, one without a stamp, or a source that is gone.
    return true;
  }
}

/**
 * The hash of what a build is made of: console/, the lockfile, and what else was in the last build.
 *
 * @param {string[]} outside files by their path in the checkout
 */
function hashOf(outside) {
  const sources = readdirSync(CONSOLE, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(ROOT, join(entry.parentPath ?? entry.path, entry.name)))
    .map((name) => name.replaceAll(sep, '/'))
    .filter((name) => !/^console\/(dist|\.dist-[^/]*|node_modules)\//.test(name));
  const hash = createHash('sha256');
  for (const name of [...sources, 'package-lock.json', ...outside].sort())
    hash
      .update(`${name}\0`)
      .update(readFileSync(join(ROOT, name)))
      .update('\0');
  return hash.digest('hex');
}
