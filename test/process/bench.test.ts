import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { CHECKOUT } from '../support/processes.ts';

const run = promisify(execFile);

interface Run {
  readonly machine: string;
  readonly results: { question: string; figures: { what: string; value: { median: number } }[] }[];
}

const bench = (...args: string[]) =>
  run(process.execPath, ['bench/main.ts', ...args], { cwd: CHECKOUT, timeout: 100_000 });

// That they run, not how fast: figures of a shared machine prove nothing here.
test('every benchmark still runs, and gives figures with their baseline', async () => {
  const { stdout } = await bench('--smoke', '--json');
  const { machine, results } = JSON.parse(stdout) as Run;
  expect(machine).toContain('PostgreSQL');
  expect(results.map(({ question }) => question)).toEqual([
    ...['create_rest', 'create_graphql', 'costs', 'bulk', 'due_at_once', 'subscriptions'],
    ...['sealing', 'verifying', 'delivering', 'delay', 'backlog'],
    'scale_out',
  ]);
  for (const { question, figures } of results) {
    expect(figures.length, question).toBeGreaterThan(0);
    for (const figure of figures) {
      expect(figure.value.median, figure.what).toBeGreaterThan(0);
      expect(figure, figure.what).toHaveProperty('baseline.value.median');
    }
  }
});

test('a question that there isn’t is refused, with those that there are', async () => {
  await expect(bench('--only', 'speed')).rejects.toMatchObject({
    code: 2,
    stderr: expect.stringContaining('Questions: create_rest, ') as string,
  });
});
