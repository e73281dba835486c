import { mkdir, mkdtemp, rm, rmdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { takeLock } from '../../src/postgres/embedded/lock.ts';

test('a lock whose file can’t be written, as on a full disk, is free for the next try', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'halyard-lock-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  const obstacle = join(folder, 'halyard.pid');
  await mkdir(obstacle);
  expect(() => takeLock(folder)).toThrow(expect.objectContaining({ code: 'EISDIR' }));
  await rmdir(obstacle);
  const unlock = takeLock(folder);
  expect(() => takeLock(folder)).toThrow(expect.objectContaining({ code: 'DATA_DIR_IN_USE' }));
  unlock();
});
