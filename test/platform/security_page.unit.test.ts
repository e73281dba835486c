import { existsSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';

const PAGE = readFileSync(new URL('../../docs/security.md', import.meta.url), 'utf8');
const DENIAL = /\b(can't|cannot|can not|may not|never)\b/;

/** The cells of each row of the tables that have a column for the test, by the heading of their columns. */
function claims(): { said: string; tests: string[] }[] {
  const tables = PAGE.split(/\n\n/).filter((part) => /^\|.*\btest +\|$/m.test(part));
  return tables.flatMap((table) => {
    const [, , ...rows] = table.trim().split('\n');
    return rows.map((row) => ({
      said: row,
      tests: [...row.matchAll(/`(test\/[\w/.]+)`/g)].map(([, file = '']) => file),
    }));
  });
}

test('each line of what someone can’t do names a test that is there', () => {
  expect(claims().length).toBeGreaterThan(20);
  for (const { said, tests } of claims()) {
    expect([said, tests.length > 0]).toEqual([said, true]);
    for (const file of tests)
      expect([file, existsSync(new URL(`../../${file}`, import.meta.url))]).toEqual([file, true]);
  }
});

test('nothing else on the page says what someone can’t do', () => {
  const tested = new Set(claims().map(({ said }) => said));
  const lines = PAGE.split('\n');
  // Of a table.
  const isHead = (n: number) => lines[n + 1]?.startsWith('| -') === true;
  const said = lines.filter((line, n) => DENIAL.test(line) && !tested.has(line) && !isHead(n));
  expect(said).toEqual(['Each line of "can\'t" names the test that tries it.']);
});
