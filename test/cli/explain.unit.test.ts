import { mkdirSync } from 'node:fs';
import pg from 'pg';
import { expect, test } from 'vitest';
import { explain } from '../../src/cli/explain.ts';
import { ConfigError } from '../../src/config/error.ts';

function databaseError(code: string, message: string): pg.DatabaseError {
  const error = new pg.DatabaseError(message, 0, 'error');
  return Object.assign(error, { code, severity: 'ERROR' });
}

function thrown(work: () => unknown): unknown {
  try {
    return work();
  } catch (error) {
    return error;
  }
}

test.for<[string, unknown, RegExp]>([
  [
    'a full disk of the database',
    databaseError('53100', 'could not extend file "base/1/2": No space left on device'),
    /^The database refuses: could not extend .* on device \(.* make room there and run it again\)\.$/,
  ],
  [
    'a standby',
    databaseError('25006', 'cannot execute INSERT in a read-only transaction'),
    /^The database refuses: .* \(the address must lead to the primary, .*\)\.$/,
  ],
  [
    'a server that has no connection left',
    databaseError('53300', 'sorry, too many clients already'),
    /^The database refuses: .* \(end other connections .*\)\.$/,
  ],
  [
    'a full disk of this host',
    Object.assign(new Error('write'), { code: 'ENOSPC', syscall: 'write', path: '/data/x' }),
    /^\/data\/x can't be used \(ENOSPC\): free space on its disk\.$/,
  ],
  [
    'a file in the place of a folder',
    thrown(() => mkdirSync('/etc/passwd/below')),
    /^\/etc\/passwd\/below can't be used \(ENOTDIR\): .*\.$/,
  ],
  ['several errors without a word', new AggregateError([new ConfigError(['A.'])], ''), /- A\.$/],
])('%s is a sentence without a stack', ([, error, sentence]) => {
  expect(explain(error)).toMatch(sentence);
  expect(explain(error)).not.toMatch(/^ +at /m);
});

test('what may be a defect keeps its stack', () => {
  for (const error of [new Error('x'), databaseError('42601', 'syntax error'), new TypeError('y')])
    expect(explain(error)).toMatch(/^ +at /m);
});
