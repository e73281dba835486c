import {
  chmod,
  mkdir,
  mkdtemp,
  readFile,
  readdir,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { findAccount } from '../../src/postgres/embedded/os_user.ts';
import type { Binaries } from '../../src/postgres/embedded/binaries.ts';
import { binaryPackage, copyBinaries } from '../../src/postgres/embedded/binaries.ts';
import { canEnter, permits } from '../../src/postgres/embedded/os_user.ts';
import { openFallbackDir } from '../../src/postgres/embedded/data_location.ts';

const isRoot = process.getuid?.() === 0;
const other = { uid: 4242, gid: 4242, switched: true };
let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'halyard-test-'));
  await chmod(folder, 0o755);
});
afterAll(() => rm(folder, { recursive: true }));

describe('the account', () => {
  const line = (name: string, id: string) => `${name}:x:${id}:${id}:,,,:/:/bin/false`;

  test('is postgres before nobody, whatever the order of the file', () => {
    const passwd = [line('root', '0'), line('nobody', '65534'), line('postgres', '101')].join('\n');
    expect(findAccount(passwd)).toEqual({ uid: 101, gid: 101 });
  });

  test('is nobody where that is all there is, negative on macOS', () => {
    expect(findAccount(line('nobody', '-2'))).toEqual({ uid: 4294967294, gid: 4294967294 });
  });

  test('is never root, and none is made up', () => {
    expect(findAccount([line('root', '0'), line('postgres', '0')].join('\n'))).toBeNull();
  });
});

describe('reach', () => {
  test('goes by the first class that matches, like the kernel', () => {
    const account = { uid: 1, gid: 2 };
    expect(permits({ mode: 0o700, uid: 1, gid: 9 }, account, 1)).toBe(true);
    expect(permits({ mode: 0o077, uid: 1, gid: 2 }, account, 1)).toBe(false);
    expect(permits({ mode: 0o010, uid: 9, gid: 2 }, account, 1)).toBe(true);
    expect(permits({ mode: 0o707, uid: 9, gid: 2 }, account, 1)).toBe(false);
    expect(permits({ mode: 0o001, uid: 9, gid: 9 }, account, 1)).toBe(true);
    expect(permits({ mode: 0o001, uid: 9, gid: 9 }, account, 5)).toBe(false);
  });

  test('looks at every folder above, through links', async () => {
    const closed = join(folder, 'closed');
    await mkdir(join(closed, 'open'), { recursive: true });
    await chmod(closed, 0o700);
    await symlink(join(closed, 'open'), join(folder, 'link'));
    expect(await canEnter(folder, other)).toBe(true);
    expect(await canEnter(join(closed, 'open'), other)).toBe(false);
    expect(await canEnter(join(folder, 'link'), other)).toBe(false);
  });
});

describe('a shelter', () => {
  test('is made with its own mode under any umask', async () => {
    const umask = process.umask(0o077);
    try {
      const shelter = await openFallbackDir(other, [join(folder, 'umask')]);
      expect((await stat(shelter)).mode & 0o777).toBe(0o755);
    } finally {
      process.umask(umask);
    }
  });

  test('is the next one where the first cannot be made', async () => {
    const shelters = [join(folder, 'missing', 'a'), join(folder, 'b')];
    expect(await openFallbackDir(other, shelters)).toBe(join(folder, 'b'));
  });

  test('that others may write to is refused', async () => {
    const planted = join(folder, 'planted');
    await mkdir(planted);
    await chmod(planted, 0o777);
    await expect(openFallbackDir(other, [planted])).rejects.toMatchObject({ code: 'NO_SHELTER' });
  });

  test('that is a link is refused', async () => {
    const target = join(folder, 'target');
    await mkdir(target);
    await symlink(target, join(folder, 'shelter-link'));
    const opening = openFallbackDir(other, [join(folder, 'shelter-link')]);
    await expect(opening).rejects.toMatchObject({ code: 'NO_SHELTER' });
  });

  // Only root can make a folder that belongs to somebody else.
  test.skipIf(!isRoot)('that belongs to another user is refused', async () => {
    const { chown } = await import('node:fs/promises');
    const planted = join(folder, 'foreign');
    await mkdir(planted);
    await chown(planted, other.uid, other.gid);
    await expect(openFallbackDir(other, [planted])).rejects.toMatchObject({ code: 'NO_SHELTER' });
  });
});

describe('copied binaries', () => {
  async function installation(): Promise<{ binaries: Binaries; shelter: string }> {
    const parent = await mkdtemp(join(folder, 'copy-'));
    await chmod(parent, 0o755);
    const [root, shelter] = [join(parent, 'native'), join(parent, 'shelter')];
    await mkdir(join(root, 'bin'), { recursive: true, mode: 0o700 });
    await mkdir(join(root, 'lib'), { mode: 0o700 });
    await mkdir(shelter);
    await writeFile(join(root, 'bin', 'postgres'), 'program', { mode: 0o700 });
    await writeFile(join(root, 'lib', 'libpq.so.5.18'), 'library', { mode: 0o600 });
    await symlink('libpq.so.5.18', join(root, 'lib', 'libpq.so.5'));
    return { binaries: { root, version: '18.4.0' }, shelter };
  }

  test('can be run by others and written by nobody else; links stay inside', async () => {
    const { binaries, shelter } = await installation();
    const { root } = await copyBinaries(binaries, shelter);
    await rm(binaries.root, { recursive: true });
    expect((await stat(root)).mode & 0o777).toBe(0o755);
    expect((await stat(join(root, 'bin', 'postgres'))).mode & 0o777).toBe(0o755);
    expect((await stat(join(root, 'lib', 'libpq.so.5'))).mode & 0o777).toBe(0o644);
    expect(await readFile(join(root, 'lib', 'libpq.so.5'), 'utf8')).toBe('library');
  });

  test('are copied once by many at the same time, without remains', async () => {
    const { binaries, shelter } = await installation();
    const copies = await Promise.all(
      Array.from({ length: 8 }, () => copyBinaries(binaries, shelter)),
    );
    expect(await readdir(shelter)).toHaveLength(1);
    expect(new Set(copies.map(({ root }) => root)).size).toBe(1);
  });

  test('of a process that was killed half-way are removed', async () => {
    const { binaries, shelter } = await installation();
    const { root } = await copyBinaries(binaries, shelter);
    const name = root.slice(shelter.length + 1);
    await rm(root, { recursive: true });
    await mkdir(join(shelter, `.${name}.${2 ** 31 - 1}.x`));
    await copyBinaries(binaries, shelter);
    expect(await readdir(shelter)).toEqual([name]);
  });

  test('that somebody else could have changed are refused', async () => {
    const { binaries, shelter } = await installation();
    const { root } = await copyBinaries(binaries, shelter);
    await chmod(root, 0o777);
    const copying = copyBinaries(binaries, shelter);
    await expect(copying).rejects.toMatchObject({ code: 'NO_SHELTER' });
  });
});

test.each([
  ['win32', 'x64'],
  ['linux', 'riscv64'],
  ['sunos', 'x64'],
])('%s on %s is told to set DATABASE_URL', (platform, arch) => {
  expect(() => binaryPackage(platform, arch)).toThrow(
    expect.objectContaining({
      code: 'UNSUPPORTED_PLATFORM',
      message: expect.stringContaining('DATABASE_URL') as string,
    }),
  );
});
