import { expect, test } from 'vitest';
import { workerLogger } from '../../src/jobs/logger.ts';
import { makeTestLog } from '../support/log.ts';

test('a task that failed is one line, and its error is in err', () => {
  const { log, lines } = makeTestLog();
  const error = new Error('no such table');
  // As graphile-worker 0.18 says it.
  workerLogger(log).error(
    `Failed task 3 (reconcile_audit, 1.00ms, attempt 1 of 25) with error 'no such table':\n  ${error.stack ?? ''}`,
    { failure: true, error, duration: 1 },
  );
  expect(lines).toEqual([
    expect.objectContaining({
      level: 'warn',
      msg: `Failed task 3 (reconcile_audit, 1.00ms, attempt 1 of 25) with error 'no such table'`,
      err: expect.objectContaining({ message: 'no such table', stack: error.stack }) as unknown,
    }),
  ]);
  expect(lines[0]).not.toHaveProperty('error');
});
