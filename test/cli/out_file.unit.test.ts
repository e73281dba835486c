import { lstat, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, expect, onTestFinished, test } from 'vitest';
import { assertWritable, writeWhole } from '../../src/cli/audit/out_file.ts';

let folder: string;
let elsewhere: string;
let out: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'halyard-out-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  elsewhere = join(folder, 'elsewhere');
  out = join(folder, 'trail.ndjson');
  await writeFile(elsewhere, 'mine');
});

test('a link is refused, by force too, also one that leads nowhere', async () => {
  await symlink(elsewhere, out);
  await expect(assertWritable(out, true)).rejects.toThrow(`${out} is a link`);
  await rm(elsewhere);
  await expect(assertWritable(out, false)).rejects.toThrow(`${out} is a link`);
});

test('what a link in the place of the unfinished file leads to stays as it is', async () => {
  await symlink(elsewhere, `${out}.partial`);
  await writeWhole(out, (file) => file.writeFile('trail'));
  expect(await readFile(elsewhere, 'utf8')).toBe('mine');
  expect(await readFile(out, 'utf8')).toBe('trail');
  expect(await lstat(out)).toMatchObject({ size: 5, nlink: 1 });
  expect((await lstat(out)).mode & 0o777).toBe(0o600);
});

test('a write that fails leaves nothing, and the older file as it was', async () => {
  await writeFile(out, 'older');
  const broken = writeWhole(out, async (file) => {
    await file.writeFile('half');
    throw new Error('no more');
  });
  await expect(broken).rejects.toThrow('no more');
  expect(await readFile(out, 'utf8')).toBe('older');
  expect((await readdir(folder)).toSorted()).toEqual(['elsewhere', 'trail.ndjson']);
});
