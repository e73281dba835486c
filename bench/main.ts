import { writeFile } from 'node:fs/promises';
import { inspect, parseArgs } from 'node:util';
import type { Benchmark, Size } from './benchmark.ts';
import { BENCHMARKS } from './benchmarks.ts';
import { describeMachine, render } from './report.ts';
import type { Result } from './report.ts';
import { startEnvironment } from './environment.ts';
import type { Environment } from './environment.ts';

const OPTIONS = {
  only: { type: 'string', multiple: true },
  json: { type: 'boolean', default: false },
  smoke: { type: 'boolean', default: false },
  full: { type: 'boolean', default: false },
} as const;

const SMOKE_LANES = 2;

const USAGE = `Usage: npm run bench -- [--only NAME]… [--smoke | --full] [--json]\nBenchmarks: ${BENCHMARKS.map(({ name }) => name).join(', ')}\n`;

/** Runs each benchmark in turn, prints one table, and keeps that of a usual or full run. */
async function main(): Promise<void> {
  const { values } = parseArgs({ options: OPTIONS });
  const chosen = choose(values.only);
  if (chosen === null) {
    process.stderr.write(USAGE);
    process.exitCode = 2;
    return;
  }
  const size: Size = values.smoke ? 'smoke' : values.full ? 'full' : 'usual';
  const startedAt = performance.now();
  const environment = await startEnvironment();
  const results: Result[] = [];
  try {
    // No figure of a smoke run means anything, so its benchmarks may disturb each other.
    const queue = [...chosen.entries()];
    const lane = async () => {
      for (let next = queue.shift(); next !== undefined; next = queue.shift())
        results[next[0]] = await measure(next[1], environment, size);
    };
    await Promise.all(Array.from({ length: size === 'smoke' ? SMOKE_LANES : 1 }, lane));
  } finally {
    await environment.stop();
  }
  const machine = describeMachine(environment.version);
  const run = {
    date: new Date().toISOString(),
    size,
    seconds: (performance.now() - startedAt) / 1_000,
    machine,
    settings: environment.settings,
    results,
  };
  const table = render(run);
  process.stdout.write(values.json ? `${JSON.stringify(run, null, 2)}\n` : table);
  if (size !== 'smoke') await writeFile(new URL('results/latest.md', import.meta.url), table);
  if (results.some(({ error }) => error !== undefined)) process.exitCode = 1;
}

/** A benchmark that fails leaves the others' results. */
async function measure(
  benchmark: Benchmark,
  environment: Environment,
  size: Size,
): Promise<Result> {
  const { name, description } = benchmark;
  process.stderr.write(`${name}: ${description}\n`);
  const startedAt = performance.now();
  const elapsed = () => (performance.now() - startedAt) / 1_000;
  try {
    const figures = await benchmark.run(environment, size);
    return { benchmark: name, description, figures, seconds: elapsed() };
  } catch (error) {
    process.stderr.write(`${inspect(error)}\n`);
    return { benchmark: name, description, figures: [], seconds: elapsed(), error: String(error) };
  }
}

/** Null when one of the names is unknown. */
function choose(only: readonly string[] | undefined): readonly Benchmark[] | null {
  if (only === undefined) return BENCHMARKS;
  const known = new Set(BENCHMARKS.map(({ name }) => name));
  return only.every((name) => known.has(name))
    ? BENCHMARKS.filter(({ name }) => only.includes(name))
    : null;
}

await main();
