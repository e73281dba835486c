import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  lchownSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import { developmentSecret } from '../../src/auth/token.ts';
import {
  openForAppending,
  readOwnFile,
  replaceFile,
  requireOwnFolder,
} from '../../src/lib/own_files.ts';
import { takeLock } from '../../src/postgres/embedded/lock.ts';
import { superuserPassword } from '../../src/postgres/embedded/password.ts';
import { cleanUp } from '../../src/postgres/embedded/postmaster.ts';
import { makeTestLog } from '../support/log.ts';

const isRoot = process.getuid?.() === 0;
const root = mkdtempSync(join(tmpdir(), 'halyard-own-'));
afterAll(() => rmSync(root, { recursive: true }));

const SECRET = 'planted-planted-planted-planted-planted';
const untrusted = (words: string): unknown =>
  expect.objectContaining({
    name: 'UntrustedPathError',
    message: expect.stringContaining(words) as string,
  });

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(root, 'data-'));
});

describe('a data folder', () => {
  test('of the user’s own, also where its group may write, is trusted unless by root', () => {
    expect(() => requireOwnFolder(folder)).not.toThrow();
    chmodSync(folder, 0o775);
    const assertion = expect(() => requireOwnFolder(folder));
    if (isRoot) assertion.toThrow(untrusted('Other users may write to'));
    else assertion.not.toThrow();
  });

  test('that others may write to gives out no secret', () => {
    writeFileSync(join(folder, 'jwt-secret'), SECRET, { mode: 0o600 });
    chmodSync(folder, 0o777);
    expect(() => developmentSecret(folder, 'development')).toThrow(
      untrusted('Other users may write to'),
    );
    chmodSync(folder, 0o700);
    expect(developmentSecret(folder, 'development')).toBe(SECRET);
  });

  // Only root can give a folder away.
  test.runIf(isRoot)('of another user gives out no secret, by a link to it neither', () => {
    writeFileSync(join(folder, 'jwt-secret'), SECRET, { mode: 0o600 });
    chownSync(folder, 65_534, 65_534);
    const link = join(root, 'link');
    symlinkSync(folder, link);
    for (const name of [folder, link])
      expect(() => developmentSecret(name, 'development')).toThrow(
        untrusted('belongs to user 65534'),
      );
    chownSync(folder, 0, 0);
    expect(developmentSecret(link, 'development')).toBe(SECRET);
    lchownSync(link, 65_534, 65_534);
    for (const name of [link, `${link}/`])
      expect(() => developmentSecret(name, 'development')).toThrow(
        untrusted('a link of user 65534'),
      );
    chownSync(join(folder, 'jwt-secret'), 65_534, 65_534);
    expect(() => developmentSecret(folder, 'development')).toThrow(
      untrusted("jwt-secret can't be trusted: it belongs to user 65534"),
    );
  });
});

describe('a file', () => {
  test('that is a link is neither read nor written', async () => {
    const elsewhere = join(folder, 'elsewhere');
    writeFileSync(elsewhere, SECRET, { mode: 0o600 });
    for (const name of ['jwt-secret', 'halyard.pid', 'halyard.lock', 'postgres.password', 'log'])
      symlinkSync(elsewhere, join(folder, name));
    const isLink = untrusted('it is a link');
    expect(() => developmentSecret(folder, 'development')).toThrow(isLink);
    expect(() => readOwnFile(join(folder, 'halyard.pid'))).toThrow(isLink);
    await expect(superuserPassword(folder, true)).rejects.toEqual(isLink);
    expect(() => openForAppending(join(folder, 'log'), 0o600)).toThrow(isLink);
    expect(() => replaceFile(join(folder, 'log'), 'text', 0o600)).toThrow(isLink);
    expect(() => takeLock(folder)).toThrow(isLink);
    rmSync(join(folder, 'halyard.lock'));
    expect(() => takeLock(folder)).toThrow(isLink);
    expect(readFileSync(elsewhere, 'utf8')).toBe(SECRET);
  });

  test('of PostgreSQL’s with a process id that is a link is not written', async () => {
    const elsewhere = join(folder, 'elsewhere');
    writeFileSync(elsewhere, SECRET, { mode: 0o600 });
    symlinkSync(elsewhere, join(folder, 'postmaster.pid'));
    await expect(cleanUp(folder, makeTestLog().log)).rejects.toEqual(untrusted('it is a link'));
    expect(readFileSync(elsewhere, 'utf8')).toBe(SECRET);
  });

  test('with the superuser’s password is for its owner alone, also when a copy was for all', async () => {
    const file = join(folder, 'postgres.password');
    for (const mode of [null, 0o644]) {
      if (mode !== null) chmodSync(file, mode);
      await superuserPassword(folder, true);
      expect(statSync(file).mode & 0o777).toBe(0o600);
    }
  });

  test('that leads nowhere is not made where it leads to', () => {
    const elsewhere = join(root, 'nowhere');
    symlinkSync(elsewhere, join(folder, 'jwt-secret'));
    expect(() => developmentSecret(folder, 'development')).toThrow(untrusted('it is a link'));
    expect(existsSync(elsewhere)).toBe(false);
  });

  test('that others may write to, a folder and a pipe are not read', () => {
    const file = join(folder, 'jwt-secret');
    writeFileSync(file, SECRET);
    chmodSync(file, 0o666);
    expect(() => readOwnFile(file)).toThrow(untrusted('other users may write to it'));
    mkdirSync(join(folder, 'folder'));
    expect(() => readOwnFile(join(folder, 'folder'))).toThrow(untrusted('it is no file'));
    execFileSync('mkfifo', [join(folder, 'pipe')]);
    expect(() => readOwnFile(join(folder, 'pipe'))).toThrow(untrusted('it is no file'));
  });

  test('of the user’s own is read and written, and one that isn’t there is null', () => {
    const file = join(folder, 'file');
    expect(readOwnFile(file)).toBeNull();
    replaceFile(file, 'mine', 0o600);
    expect(readOwnFile(file)).toBe('mine');
  });
});
