import { execFile } from 'node:child_process';
import { chmodSync, cpSync, existsSync, readFileSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rm, symlink, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { makeBuild } from '../../src/console/build.ts';
import { makeTestLog } from '../support/log.ts';
import { CHECKOUT } from '../support/processes.ts';

/** What is in console/ after each run. */
const PARTS = ['dist', 'index.html', 'src', 'vite.config.ts'];
let folder: string;

beforeAll(async () => {
  // A folder that only its owner may enter, as mkdtemp makes it.
  folder = await mkdtemp(join(tmpdir(), 'halyard-prepare-'));
  await mkdir(join(folder, 'scripts'));
  copyScript();
});
afterAll(() => rm(folder, { recursive: true }));

/** Runs the script as npm does, with an empty home. @returns its status and what it said */
function prepare(...args: string[]): Promise<[number, string]> {
  const options = {
    cwd: folder,
    env: { PATH: process.env.PATH ?? '', HOME: '', NODE_ENV: 'development' },
  };
  return new Promise((resolve) => {
    const child = execFile(
      process.execPath,
      ['scripts/prepare.mjs', ...args],
      options,
      (_error, out, err) => {
        resolve([child.exitCode ?? -1, out + err]);
      },
    );
  });
}

const copyScript = () =>
  cpSync(join(CHECKOUT, 'scripts/prepare.mjs'), join(folder, 'scripts/prepare.mjs'));
const write = (name: string, text: string) => writeFile(join(folder, name), text);
const dist = (name = '') => join(folder, 'console/dist', name);

describe('npm run prepare', { timeout: 60_000 }, () => {
  test('says in a line that there is no console, or no Vite, and succeeds', async () => {
    expect(await prepare()).toEqual([
      0,
      'console: there is no console/index.html, so nothing is built\n',
    ]);
    await mkdir(join(folder, 'console/src'), { recursive: true });
    await write(
      'console/index.html',
      '<!doctype html><script type="module" src="/src/main.ts"></script>',
    );
    await write(
      'console/src/main.ts',
      `import { N } from '../../shared.ts'; import './a.css'; const n: number = N; document.title = String(n);`,
    );
    await write('console/src/a.css', 'body { color: CanvasText }');
    await write(
      'console/vite.config.ts',
      `const base: string = '/console/'; export default { base };`,
    );
    await write('shared.ts', 'export const N = 41;');
    await write('package-lock.json', '{}');
    expect(await prepare()).toEqual([
      0,
      'console: Vite isn’t installed, so the web page at /console is not built\n',
    ]);
    expect(existsSync(dist())).toBe(false);
  });

  test('builds with Vite, compresses, and builds again only what has changed', async () => {
    await symlink(join(CHECKOUT, 'node_modules'), join(folder, 'node_modules'));
    chmodSync(folder, 0o700);
    expect(await prepare()).toEqual([0, expect.stringMatching(/^console: built in \d+ ms\n$/)]);
    const html = readFileSync(dist('index.html'), 'utf8');
    const [, script = ''] = /src="\/console\/(assets\/[\w.-]+\.js)"/.exec(html) ?? [];
    expect(gunzipSync(readFileSync(dist(`${script}.gz`))).equals(readFileSync(dist(script)))).toBe(
      true,
    );
    expect(existsSync(dist(`${script}.br`))).toBe(true);
    expect(await readdir(join(folder, 'console'))).toEqual(PARTS);

    expect(await prepare('--if-stale')).toEqual([0, '']);
    // Not only its own sources: the schemas of the server are in it too.
    await write('shared.ts', 'export const N = 42;');
    expect((await prepare('--if-stale'))[1]).toContain('built in');
    await write('package-lock.json', '{ "name": "other" }');
    expect((await prepare('--if-stale'))[1]).toContain('built in');
  });

  test('may run twice at once, and leaves one whole build and nothing else', async () => {
    const both = await Promise.all([prepare(), prepare()]);
    expect(both.map(([status, said]) => (status === 0 ? 'built' : said))).toEqual([
      'built',
      'built',
    ]);
    expect(existsSync(dist('stamp.json'))).toBe(true);
    expect(await readdir(join(folder, 'console'))).toEqual(PARTS);
    expect(await prepare('--if-stale')).toEqual([0, '']);
  });

  test('fails when the sources can’t be built, and leaves the build that there is', async () => {
    await write('console/src/main.ts', 'const = ;');
    const [status, said] = await prepare('--if-stale');
    expect([status, said.includes('main.ts')]).toEqual([1, true]);
    expect(existsSync(dist('index.html'))).toBe(true);
    expect(await readdir(join(folder, 'console'))).toEqual(PARTS);
  });

  test.each(["process.kill(process.pid, 'SIGINT')", 'process.exit(130)'])(
    'that Ctrl-C ends beside the API is not said to have failed: %s',
    async (ending) => {
      await write(
        'scripts/prepare.mjs',
        `await new Promise((resolve) => setTimeout(resolve, 50));\n${ending}`,
      );
      const { log, lines } = makeTestLog();
      await makeBuild(log, folder).settled();
      copyScript();
      expect(lines).toEqual([]);
    },
  );

  test('is what an API in development does by itself, in another process', async () => {
    const { log, lines } = makeTestLog();
    const failing = makeBuild(log, folder);
    await failing.settled();
    expect(failing.problem()).toContain('the log of the API says why');
    expect(lines).toMatchObject([
      {
        level: 'warn',
        msg: 'the console could not be built',
        output: expect.stringContaining('main.ts') as string,
      },
    ]);
    await write('console/src/main.ts', 'document.title = "mended";');
    const build = makeBuild(log, folder);
    build.begin();
    expect(build.problem()).toContain('being built');
    await build.settled();
    const [script = ''] = (await readdir(dist('assets'))).filter((name) => name.endsWith('.js'));
    expect(readFileSync(dist(`assets/${script}`), 'utf8')).toContain('mended');
    await Promise.all([failing.close(), build.close()]);
  });

  test('ends with the API, and leaves nothing behind', async () => {
    const { log, lines } = makeTestLog();
    const entries = () => readdir(join(folder, 'console'));
    const config = readFileSync(join(folder, 'console/vite.config.ts'), 'utf8');
    const endless = `{ name: 'endless', closeBundle: () => new Promise((done) => setTimeout(done, 60_000)) }`;
    await write(
      'console/vite.config.ts',
      config.replace('{ base }', `{ base, plugins: [${endless}] }`),
    );
    // What an end without a signal leaves.
    await mkdir(join(folder, 'console/.dist-killed'));
    const build = makeBuild(log, folder);
    build.begin();
    await expect.poll(async () => (await entries()).length).toBe(PARTS.length + 2);
    await build.close();
    expect(lines).toEqual([]);
    expect(await entries()).toEqual(['.dist-killed', ...PARTS]);
    const longAgo = new Date(Date.now() - 7_200_000);
    await utimes(join(folder, 'console/.dist-killed'), longAgo, longAgo);
    await write('console/vite.config.ts', config);
    await prepare();
    expect(await entries()).toEqual(PARTS);
  });

  test('is made of what was there when it began', async () => {
    const config = readFileSync(join(folder, 'console/vite.config.ts'), 'utf8');
    const main = join(folder, 'console/src/main.ts');
    const editing = `{ name: 'editing', closeBundle: () => writeFileSync(${JSON.stringify(main)}, 'document.title = "edited";') }`;
    await write(
      'console/vite.config.ts',
      `import { writeFileSync } from 'node:fs'; ${config.replace('{ base }', `{ base, plugins: [${editing}] }`)}`,
    );
    await prepare();
    expect((await prepare('--if-stale'))[1]).toContain('built in');
    await write('console/vite.config.ts', config);
  });

  test('says why its process could not be started', async () => {
    const { log, lines } = makeTestLog();
    const build = makeBuild(log, join(folder, 'nowhere'));
    await build.settled();
    expect(lines).toMatchObject([
      { level: 'warn', output: expect.stringContaining('ENOENT') as string },
    ]);
  });
});
