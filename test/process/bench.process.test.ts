import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import type { Figure } from '../../bench/benchmark.ts';
import { byForm } from '../support/chaos/form.ts';
import { CHECKOUT } from '../support/processes.ts';

const run = promisify(execFile);

interface Run {
  readonly machine: string;
  readonly results: readonly { readonly benchmark: string; readonly figures: readonly Figure[] }[];
}

const BENCHMARKS = [
  ...[
    'create_rest',
    'create_graphql',
    'pipeline',
    'costs',
    'due_at_once',
    'plans',
    'lateness',
    'bulk',
  ],
  ...[
    'listing',
    'states',
    'sealing',
    'delivering',
    'delay',
    'backlog',
    'verifying',
    'subscriptions',
  ],
  ...['memory_start', 'scale_out'],
];
/** One of each kind: requests to an API, statements by pgbench's way, a worker's delivery, a query. The others take a minute more. */
const SHORT = ['create_rest', 'bulk', 'delivering', 'verifying'];

const bench = (...args: string[]) =>
  run(process.execPath, ['bench/main.ts', ...args], { cwd: CHECKOUT, timeout: 170_000 });

// That they run, not how fast: figures of a shared machine prove nothing here.
test('the benchmarks still run, and give figures', { timeout: 180_000 }, async () => {
  const asked = byForm({ short: SHORT, full: BENCHMARKS });
  const { stdout } = await bench('--smoke', '--json', ...asked.flatMap((name) => ['--only', name]));
  const { machine, results } = JSON.parse(stdout) as Run;
  expect(machine).toContain('PostgreSQL');
  expect(results.map(({ benchmark }) => benchmark)).toEqual(asked);
  for (const { benchmark, figures } of results) {
    expect(figures.length, benchmark).toBeGreaterThan(0);
    for (const { what, value, baseline } of figures) {
      expect(value.median, what).toBeGreaterThan(0);
      if (baseline !== undefined) expect(baseline.value.median, what).toBeGreaterThan(0);
    }
  }
});

test('an unknown benchmark is refused, with the names that there are', async () => {
  await expect(bench('--only', 'speed')).rejects.toMatchObject({
    code: 2,
    stderr: expect.stringContaining(`Benchmarks: ${BENCHMARKS.join(', ')}\n`) as string,
  });
});
