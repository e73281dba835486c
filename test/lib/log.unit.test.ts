import { spawnSync } from 'node:child_process';

import { describe, expect, test } from 'vitest';

import { makeLogger, scrub } from '../../src/lib/log.ts';
import { makeTestLog } from '../support/log.ts';
import { adminToken, forge } from '../support/tokens.ts';

const TOKEN = adminToken();

/** What a process that logs one line at info and one at debug writes, by stream. */
function runLogger(logLevel: string) {
  const script = `
    import { makeLogger } from ${JSON.stringify(new URL('../../src/lib/log.ts', import.meta.url).href)};
    const log = makeLogger({ logLevel: '${logLevel}', nodeEnv: 'production' }, 'api');
    log.debug('one'); log.info('two'); process.kill(process.pid, 'SIGKILL');`;
  return spawnSync(process.execPath, ['--input-type=module', '--eval', script], {
    encoding: 'utf8',
  });
}

test('lines are JSON on stderr, written before the next statement', () => {
  const { stdout, stderr } = runLogger('info');
  expect(stdout).toBe('');
  expect(JSON.parse(stderr)).toMatchObject({
    level: 'info',
    name: 'api',
    env: 'production',
    msg: 'two',
    time: expect.stringMatching(/^\d{4}-.*Z$/) as string,
  });
});

test('silent means silent', () => {
  expect(runLogger('silent')).toMatchObject({ stdout: '', stderr: '' });
});

test('known secret fields are redacted, at the top and one level down', () => {
  const { log, text } = makeTestLog();
  log.info({ authorization: 'opaque-1', token: 'opaque-2', password: 'opaque-3' });
  log.info({ jwt: { secret: 'opaque-4' }, config: { databaseUrl: 'opaque-5' } });
  log.info({ req: { headers: { authorization: 'opaque-6', cookie: 'opaque-7' } } });
  expect(text()).not.toContain('opaque');
  expect(text().match(/\[Redacted\]/g)).toHaveLength(7);
});

test('tokens and passwords are taken out wherever they stand', () => {
  const { log, lines, text } = makeTestLog();
  const unsigned = forge({ alg: 'none' }, { role: 'admin' });
  log.info({ url: `/graphql?access_token=${TOKEN}`, deep: { er: { still: [TOKEN] } } });
  log.warn(`Authorization: Bearer ${TOKEN}`);
  log.warn(`not JSON: "${unsigned}"`);
  log.warn('Bearer an-opaque-token-of-some-length');
  log.error(new Error('connect to postgres://halyard:hunter2@db.example:5432/halyard'));
  log.child({ header: `Bearer ${TOKEN}` }).info('child');
  expect(lines).toHaveLength(6);
  for (const part of [...TOKEN.split('.'), ...unsigned.split('.'), 'opaque-token', 'hunter2'])
    if (part !== '') expect(text()).not.toContain(part);
  expect(text()).toContain('postgres://halyard:[Redacted]@db.example:5432/halyard');
});

test('what is no secret stays', () => {
  const harmless = '{"msg":"GET http://127.0.0.1:3000/a@b by alice@example.com: Bearer missing"}';
  expect(scrub(harmless)).toBe(harmless);
});

test('an error keeps its code and causes, and loses what quotes rows or holds connections', () => {
  const { log, lines, text } = makeTestLog();
  const refused = Object.assign(new Error('refused'), { code: 'ECONNREFUSED' });
  const error = Object.assign(
    new Error('insert failed', { cause: new AggregateError([refused]) }),
    {
      code: '23505',
      constraint: 'feature_flags_key',
      detail: 'Key (email)=(alice@example.com) already exists.',
      client: { user: 'somebody' },
    },
  );
  log.error({ err: error }, 'broken');
  expect(lines[0]).toMatchObject({
    msg: 'broken',
    err: {
      type: 'Error',
      message: 'insert failed',
      code: '23505',
      constraint: 'feature_flags_key',
      cause: { type: 'AggregateError', errors: [{ code: 'ECONNREFUSED' }] },
    },
  });
  expect(text()).not.toMatch(/alice|somebody/);
});

test('a thrown value that is no error is logged as it is', () => {
  const { log, lines } = makeTestLog();
  log.error({ err: 'a string' }, 'odd');
  expect(lines[0]).toMatchObject({ err: 'a string' });
});

describe('as text', () => {
  /** The logger's lines with their times taken off. */
  function makeTextLog() {
    let written = '';
    const log = makeLogger({ logLevel: 'trace', nodeEnv: 'test', logFormat: 'text' }, 'test', {
      write: (text) => (written += text),
    });
    const lines = () => written.split('\n').map((line) => line.replace(/^\d\d:\d\d:\d\d {2}/, ''));
    return { log, lines: () => lines().slice(0, -1) };
  }

  test('a line has what happened, and the fields that a person needs', () => {
    const { log, lines } = makeTextLog();
    log.info({ url: 'http://127.0.0.1:3000', part: null, ports: [1, 2] }, 'listening');
    log.debug('asked');
    const request = { requestId: 'r', method: 'GET', path: '/api', responseTime: 3 };
    log.info({ ...request, status: 200 }, 'request');
    log.info({ ...request, status: null }, 'request');
    expect(lines()).toEqual([
      'listening  (url: http://127.0.0.1:3000, ports: [1,2])',
      'debug: asked',
      'GET /api  200, 3 ms',
      'GET /api  its client went away, 3 ms',
    ]);
  });

  test('a warning has the causes of its error, and an error the stack', () => {
    const { log, lines } = makeTextLog();
    const error = new Error('it is full', { cause: new Error('no room') });
    const sentence = `not delivered, ${'because '.repeat(100)}of this`;
    log.warn({ err: error, failures: 2 }, sentence);
    expect(lines()).toEqual([`warning: ${sentence}: it is full: no room  (failures: 2)`]);
    log.error({ err: error }, 'failed');
    expect(lines()[1]).toBe('ERROR: failed: it is full: no room');
    expect(lines()[2]).toMatch(/^ +at /);
  });

  test('nothing moves the cursor of a terminal, and tokens are taken out', () => {
    const { log, lines } = makeTextLog();
    log.warn({ key: 'a\u001b[2J\nb', token: 'opaque' }, `c\r\u202ed ${TOKEN}`);
    expect(lines()).toEqual(['warning: c��d [Redacted]  (key: a�[2J�b, token: [Redacted])']);
  });
});
