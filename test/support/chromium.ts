import { execFile } from 'node:child_process';
import { chmod, mkdir, mkdtemp, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { ifExists } from '../../src/lib/errno.ts';

const run = promisify(execFile);

/** A Chromium that runs on this machine. */
export interface Chromium {
  readonly path: string;
  /** What it needs of the environment, and nothing of ours. */
  readonly env: Readonly<Record<string, string>>;
  /** Takes away what was unpacked for this run alone. */
  readonly remove: () => Promise<void>;
}

/** No browser runs on this machine. The message says why. */
export class NoBrowserError extends Error {}

const PACKAGE = pathToFileURL(createRequire(import.meta.url).resolve('@sparticuz/chromium')).href;
/** It belongs to the owner of the packages, and goes with them: no other user can put a program there. */
const KEPT = fileURLToPath(new URL('../../node_modules/.cache/chromium', import.meta.url));

/** The package unpacks into the temporary folder: in a process of its own that is the folder of our choice. */
const UNPACK = `
  import chromium, { inflate } from ${JSON.stringify(PACKAGE)};
  chromium.setGraphicsMode = false;
  const { fileURLToPath } = await import('node:url');
  await Promise.all(['chromium.br', 'fonts.tar.br', 'al2023.tar.br']
    .map((name) => inflate(fileURLToPath(new URL('../bin/' + name, ${JSON.stringify(PACKAGE)})))));
`;

/**
 * The browser that CHROMIUM names, else the one of the registry package, unpacked once into node_modules/.cache.
 *
 * @throws NoBrowserError where neither runs here
 */
export async function findChromium(): Promise<Chromium> {
  const named = process.env.CHROMIUM;
  const found =
    named !== undefined && named !== ''
      ? { folder: null, path: named, remove: () => Promise.resolve() }
      : await unpacked();
  const env = { PATH: process.env.PATH ?? '', ...(await fontsIn(found.folder)) };
  try {
    const libraries = await librariesFor(found.path, found.folder, env);
    return { path: found.path, env: { ...env, ...libraries }, remove: found.remove };
  } catch (error) {
    await found.remove();
    throw error;
  }
}

/** Unpacks the package, unless a run before has. */
async function unpacked(): Promise<{ folder: string; path: string; remove: () => Promise<void> }> {
  if (process.platform !== 'linux' || process.arch !== 'x64')
    throw new NoBrowserError(
      `@sparticuz/chromium has no browser for ${process.platform} on ${process.arch}: set CHROMIUM to the path of one.`,
    );
  const entry = await ifExists(readdir(KEPT));
  if (entry !== null) return { folder: KEPT, path: join(KEPT, 'chromium'), remove: leave };
  const [draft, keeps] = await makeDraft();
  try {
    await run(process.execPath, ['--input-type=module', '-e', UNPACK], {
      env: { PATH: process.env.PATH ?? '', TMPDIR: draft },
    });
    // For whom runs the tests next, as after a run as root.
    for (const name of ['', 'chromium']) await chmod(join(draft, name), 0o755);
  } catch (error) {
    await rm(draft, { recursive: true, force: true });
    throw new Error('Unpacking @sparticuz/chromium failed.', { cause: error });
  }
  const remove = () => rm(draft, { recursive: true, force: true });
  if (!keeps) return { folder: draft, path: join(draft, 'chromium'), remove };
  // Whole or not at all. Where another run was faster, its folder counts.
  await rename(draft, KEPT).catch(remove);
  return { folder: KEPT, path: join(KEPT, 'chromium'), remove: leave };
}

const leave = () => Promise.resolve();

/** @returns a folder, and whether it can become the one that is kept */
async function makeDraft(): Promise<[string, boolean]> {
  try {
    await mkdir(join(KEPT, '..'), { recursive: true });
    return [await mkdtemp(`${KEPT}-`), true];
  } catch {
    // The packages belong to somebody else.
    return [await mkdtemp(join(tmpdir(), 'halyard-chromium-')), false];
  }
}

/** The package's font, so that pages look alike everywhere, and the machine's for what that lacks, such as arrows. */
async function fontsIn(folder: string | null): Promise<Record<string, string>> {
  if (folder === null) return {};
  const file = join(folder, 'halyard-fonts.conf');
  const preferred = ['system-ui', 'sans-serif'].map(
    (family) =>
      `<alias binding="strong"><family>${family}</family><prefer><family>Open Sans</family></prefer></alias>`,
  );
  const lines = [
    '<fontconfig>',
    ...[`${folder}/fonts`, '/usr/share/fonts'].map((dir) => `<dir>${dir}</dir>`),
    `<cachedir>${folder}/fonts-cache</cachedir>`,
    ...preferred,
    '</fontconfig>',
  ];
  // Where the folder belongs to somebody else, the file is there already.
  await writeFile(file, lines.join('\n')).catch(() => undefined);
  return { FONTCONFIG_FILE: file };
}

/** Nothing where the machine has all libraries, else the package's own, as of NSS, which servers rarely have. */
async function librariesFor(
  path: string,
  folder: string | null,
  env: Readonly<Record<string, string>>,
): Promise<Record<string, string>> {
  const own = folder === null ? [] : [{ LD_LIBRARY_PATH: join(folder, 'al2023', 'lib') }];
  let problem: unknown;
  for (const libraries of [{}, ...own]) {
    try {
      await run(path, ['--version'], { env: { ...env, ...libraries } });
      return libraries;
    } catch (error) {
      problem = error;
    }
  }
  const { stderr = '', message = '' } = problem as { stderr?: string; message?: string };
  throw new NoBrowserError(`${path} doesn’t run here: ${(stderr || message).trim()}`);
}
