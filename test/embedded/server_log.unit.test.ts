import { expect, test } from 'vitest';
import { failureIn } from '../../src/postgres/embedded/server_log.ts';

const FULL = `creating configuration files ... ok
running bootstrap script ... 2026-11-27 08:39:57.497 UTC [699] FATAL:  could not write to file "pg_wal/xlogtemp.699": No space left on device
child process exited with exit code 1
initdb: removing contents of data directory "/data"`;

test.for<[string, string | null]>([
  [FULL, 'could not write to file "pg_wal/xlogtemp.699": No space left on device'],
  [
    'initdb: error: could not access directory "/x": Permission denied\n',
    'could not access directory "/x": Permission denied',
  ],
  ['creating subdirectories ... ok', null],
  ['', null],
])('what initdb failed for is one line: %#', ([log, failure]) => {
  expect(failureIn(log)).toBe(failure);
});
