import { expect, test } from 'vitest';
import { loadConfig } from '../../src/config/config.ts';
import { problems } from '../support/config.ts';

const OWNER = 'postgres://halyard_owner';

test.for([
  'p@ss:/%#w',
  's3cr3t@tail?more',
  's3cr3t@tail/more?still',
  's3cr3t/tail',
  's3cr3t?tail',
  '6543?tail',
  's3cr3t#tail',
  's3cr3t%tail',
  's3cr3t@elsewhere:1/tail',
  's3cr3t:/tail@x',
])('of a password that is not encoded, %s, no part is printed', (password) => {
  const [problem = ''] = problems({ DATABASE_URL: `${OWNER}:${password}@db:5432/halyard` });
  expect(problem).toMatch(/^Set DATABASE_URL to an address whose user and password are percent/);
  for (const part of password.split(/[@:/?#%]+/).filter((text) => text.length > 2))
    expect(problem).not.toContain(part);
  expect(problem).not.toContain('p@ss');
  const encoded = `${OWNER}:${encodeURIComponent(password)}@db:5432/halyard`;
  expect(loadConfig({ DATABASE_URL: encoded }, 'migrate').databaseUrl).toBe(encoded);
});

test.for([
  ['@db:99999/halyard', false],
  ['@db:abc/halyard', false],
  ['@[::1]:99999/halyard', false],
  ['@db/halyard?port=abc', false],
  ['@[::1]:5432/halyard', true],
  ['@[::1]/halyard', true],
  ['@db:/halyard', true],
] as const)('the port of …%s is good: %s', ([given, isGood]) => {
  const found = problems({ DATABASE_URL: OWNER + given });
  if (isGood) expect(found).toEqual([]);
  else expect(found[0]).toMatch(/^Set DATABASE_URL to an address whose port is a number/);
});

test.for<[string, string]>([
  // What pg means by them, without its warning.
  ['@db/halyard?sslmode=require', '@db/halyard?sslmode=verify-full'],
  ['@db/halyard?sslmode=verify-ca', '@db/halyard?sslmode=verify-full'],
  ['@db/halyard?sslmode=no-verify', '@db/halyard?sslmode=no-verify'],
  ['@db/halyard?sslmode=disable', '@db/halyard?sslmode=disable'],
  ['@db/h?uselibpqcompat=true&sslmode=require', '@db/h?uselibpqcompat=true&sslmode=require'],
  // As Cloud SQL's documentation has it.
  [':pw@/halyard?host=/cloudsql/p:r:i', ':pw@localhost/halyard?host=/cloudsql/p:r:i'],
  [':p@w@/halyard?host=/cloudsql/p:r:i', ':p%40w@localhost/halyard?host=/cloudsql/p:r:i'],
  [':pw@%2Fcloudsql%2Fp%3Ar%3Ai/halyard', ':pw@%2Fcloudsql%2Fp%3Ar%3Ai/halyard'],
])('the address …%s means …%s', ([given, meant]) => {
  const { databaseUrl } = loadConfig({ DATABASE_URL: OWNER + given }, 'migrate');
  expect(databaseUrl).toBe(OWNER + meant);
});

test.for<[string, RegExp]>([
  ['@db/halyard?sslmode=prefer', /sslmode is verify-full/],
  ['@db/halyard?sslmode=allow', /sslmode is verify-full/],
  ['@db/halyard?sslmode=constructor', /sslmode is verify-full/],
  ['@db/halyard?sslmode=', /sslmode is verify-full/],
  ['@db/halyard?ssl=false', /sslmode in place of ssl/],
  ['@db/halyard?uselibpqcompat=true&sslmode=verify-ca', /sslrootcert/],
  ['@db1,db2/halyard', /one host/],
  [':pw@/halyard', /an address such as/],
])('the address …%s is refused', ([given, sentence]) => {
  const [problem = '', ...others] = problems({ DATABASE_URL: OWNER + given });
  expect(problem).toMatch(sentence);
  expect(others).toEqual([]);
});
