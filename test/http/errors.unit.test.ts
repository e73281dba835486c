import { readdir, readFile } from 'node:fs/promises';

import pg from 'pg';
import { describe, expect, test } from 'vitest';

import { AuthenticationError } from '../../src/auth/auth.ts';
import { InvalidClaimsError } from '../../src/auth/claims.ts';
import { KeysUnavailableError } from '../../src/auth/jwks.ts';
import { DatabaseUnavailableError } from '../../src/postgres/pool.ts';
import { NoRoleError } from '../../src/postgres/request_settings.ts';
import { ProblemError, PROBLEMS, problemOf, SQLSTATES } from '../../src/lib/errors.ts';

const read = (path: string) => readFile(new URL(`../../${path}`, import.meta.url), 'utf8');

/** PostgreSQL's names for codes, where the SQL raises by name. */
const CONDITIONS: Record<string, string> = {
  ...{ insufficient_privilege: '42501', query_canceled: '57014' },
};
/** Of a dry run: it undoes what was done, and never leaves its function. */
const DRY_RUN = 'ZF099';

/** The SQL of every fixture. */
async function fixtures(): Promise<string[]> {
  const folder = new URL('../../migrations/fixtures', import.meta.url);
  const names = (await readdir(folder, { recursive: true }))
    .filter((name) => name.endsWith('.sql'))
    .sort();
  return Promise.all(names.map((name) => read(`migrations/fixtures/${name}`)));
}

async function raised(): Promise<Set<string>> {
  const codes = (await fixtures()).flatMap((sql) =>
    [...sql.matchAll(/errcode = (?:coalesce\(\w+, )?'(\w+)'/g)].map(
      ([, code = '']) => CONDITIONS[code] ?? code,
    ),
  );
  return new Set(codes);
}

/** The rows of a table of docs/errors.md, by its first heading. */
async function table(heading: string): Promise<string[][]> {
  const page = (await read('docs/errors.md')).split(new RegExp(`^\\| ${heading} +\\|`, 'm'))[1];
  const section = page?.split('\n\n')[0] ?? '';
  return section
    .split('\n')
    .slice(2)
    .filter((line) => line.startsWith('|'))
    .map((line) =>
      line
        .split('|')
        .slice(1, -1)
        .map((cell) => cell.trim().replaceAll('`', '')),
    );
}

function databaseError(code: string, fields: Partial<pg.DatabaseError> = {}): pg.DatabaseError {
  return Object.assign(new pg.DatabaseError('message of the server', 0, 'error'), {
    code,
    ...fields,
  });
}

describe('docs/errors.md', () => {
  test('has every code with its status, and no other', async () => {
    const rows = await table('code');
    const documented = Object.fromEntries(
      rows.map(([code = '', status]) => [code, Number(status)]),
    );
    const inCode = Object.fromEntries(
      Object.entries(PROBLEMS).map(([code, p]) => [code, p.status]),
    );
    expect(documented).toEqual(inCode);
    expect(rows.every(([, , when, what]) => when !== '' && what !== '')).toBe(true);
  });

  test('has every SQLSTATE with its code, and no other', async () => {
    const documented = (await table('SQLSTATE')).map(([state, code]) => [state, code]);
    expect(Object.fromEntries(documented)).toEqual(SQLSTATES);
  });
});

/** By PostgreSQL's own names: raised to auditors, operators and workers, by functions that no request reaches. */
const AT_A_PROMPT = [
  ...['data_exception', 'invalid_parameter_value', 'invalid_transaction_state', 'no_data_found'],
  ...['null_value_not_allowed', 'object_not_in_prerequisite_state'],
];

test('every error that the SQL raises has a code, and every code of ours is raised', async () => {
  const codes = await raised();
  const unknown = [...codes].filter((code) => SQLSTATES[code] === undefined && code !== DRY_RUN);
  expect(unknown.toSorted()).toEqual(AT_A_PROMPT);
  const ours = Object.keys(SQLSTATES).filter((state) => state.startsWith('ZF'));
  expect(ours.filter((state) => !codes.has(state))).toEqual([]);
});

describe('problemOf', () => {
  test.each(
    Object.entries(SQLSTATES).filter(([state]) => !/^(23503|23505|23514|42501)$/.test(state)),
  )('makes %s %s', (state, code) => {
    const { status } = PROBLEMS[code];
    expect(problemOf(databaseError(state))).toMatchObject({ status, code });
  });

  test('knows constraints by name, and masks the violation of one that it does not know', () => {
    const key = { constraint: 'feature_flags_environment_flag_key_key' };
    expect(problemOf(databaseError('23505', key)).code).toBe('flag_exists');
    const flagKey = { constraint: 'feature_flags_flag_key_check' };
    expect(problemOf(databaseError('23514', flagKey)).code).toBe('invalid_value');
    const environment = { constraint: 'feature_flags_environment_fkey' };
    expect(problemOf(databaseError('23503', environment)).code).toBe('environment_not_found');
    const flag = { constraint: 'feature_flag_schedules_flag_id_fkey' };
    expect(problemOf(databaseError('23503', flag)).code).toBe('flag_not_found');
    for (const state of ['23503', '23505', '23514'])
      expect(problemOf(databaseError(state, { constraint: 'other' })).code).toBe('internal_error');
  });

  test('has the text of an exception without a code, which none of ours is', async () => {
    const statements = (await fixtures()).flatMap(
      (sql) => sql.match(/raise exception[^]*?;\n/g) ?? [],
    );
    expect(statements.length).toBeGreaterThan(30);
    expect(statements.filter((statement) => !statement.includes('errcode = '))).toEqual([]);
    expect(problemOf(databaseError('P0001')).detail).toBe('message of the server');
    const long = Object.assign(new pg.DatabaseError('x'.repeat(5_000), 0, 'error'), {
      code: 'P0001',
    });
    expect(problemOf(long).detail.length).toBeLessThan(1_010);
  });

  test('knows a denial by a policy, and masks one of any other place in the server', () => {
    expect(problemOf(databaseError('42501', { routine: 'ExecWithCheckOptions' }))).toMatchObject({
      status: 403,
      code: 'forbidden',
    });
    for (const routine of ['aclcheck_error', 'exec_stmt_raise', 'mdopenfork', undefined])
      expect(problemOf(databaseError('42501', { routine })).code).toBe('internal_error');
  });

  test('tells what our SQL and the database say about a value, and nothing else of theirs', () => {
    expect(problemOf(databaseError('ZF003')).detail).toBe('message of the server');
    expect(problemOf(databaseError('22P02')).detail).toBe('message of the server');
    for (const state of ['42501', '42P01', 'XX000', '08006', '55P03'])
      expect(problemOf(databaseError(state)).detail).not.toContain('message of the server');
  });

  test('takes any connection exception for an absent database', () => {
    expect(problemOf(databaseError('08006')).code).toBe('database_unavailable');
  });

  test.each([
    [new ProblemError('not_found', 'x'), 'not_found'],
    [new AuthenticationError('token_expired'), 'token_expired'],
    [new InvalidClaimsError('x'), 'token_invalid'],
    [new KeysUnavailableError(null), 'jwks_unavailable'],
    [new NoRoleError(), 'role_missing'],
    [new DatabaseUnavailableError(null), 'database_unavailable'],
    [Object.assign(new Error('x'), { code: 'ECONNREFUSED' }), 'database_unavailable'],
    [Object.assign(new Error('x'), { code: 'ENOTFOUND' }), 'database_unavailable'],
    [Object.assign(new Error('x'), { code: 'ENOENT' }), 'internal_error'],
    [Object.assign(new Error('x'), { code: 'toString' }), 'internal_error'],
    [new Error('x'), 'internal_error'],
    ['x', 'internal_error'],
    [null, 'internal_error'],
  ])('makes %s %s', (error, code) => {
    expect(problemOf(error).code).toBe(code);
  });

  test('masks what it does not know', () => {
    expect(JSON.stringify(problemOf(new Error('the secret')))).not.toContain('secret');
  });
});
