import { writeFile } from 'node:fs/promises';
import { inspect, parseArgs } from 'node:util';
import type { Question, Size } from './question.ts';
import { QUESTIONS } from './questions.ts';
import { describeMachine, render } from './report.ts';
import type { Result } from './report.ts';
import { startStand } from './stand.ts';
import type { Stand } from './stand.ts';

const OPTIONS = {
  only: { type: 'string', multiple: true },
  json: { type: 'boolean', default: false },
  smoke: { type: 'boolean', default: false },
  full: { type: 'boolean', default: false },
} as const;

const SMOKE_LANES = 2;

const USAGE = `Usage: npm run bench -- [--only NAME]… [--smoke | --full] [--json]\nQuestions: ${QUESTIONS.map(({ name }) => name).join(', ')}\n`;

/** Asks each question in turn, prints one table, and keeps that of a usual or full run. */
async function main(): Promise<void> {
  const { values } = parseArgs({ options: OPTIONS });
  const chosen = choose(values.only);
  if (chosen === null) {
    process.stderr.write(USAGE);
    process.exitCode = 2;
    return;
  }
  const size: Size = values.smoke ? 'smoke' : values.full ? 'full' : 'usual';
  const begun = performance.now();
  const stand = await startStand();
  const results: Result[] = [];
  try {
    // No figure of a smoke run means anything, so its questions may get in each other's way.
    const queue = [...chosen.entries()];
    const lane = async () => {
      for (let next = queue.shift(); next !== undefined; next = queue.shift())
        results[next[0]] = await ask(next[1], stand, size);
    };
    await Promise.all(Array.from({ length: size === 'smoke' ? SMOKE_LANES : 1 }, lane));
  } finally {
    await stand.stop();
  }
  const machine = describeMachine(stand.version);
  const run = {
    date: new Date().toISOString(),
    size,
    seconds: (performance.now() - begun) / 1_000,
    machine,
    settings: stand.settings,
    results,
  };
  const table = render(run);
  process.stdout.write(values.json ? `${JSON.stringify(run, null, 2)}\n` : table);
  if (size !== 'smoke') await writeFile(new URL('results/latest.md', import.meta.url), table);
  if (results.some(({ error }) => error !== undefined)) process.exitCode = 1;
}

/** A question that fails doesn't take the others' answers with it. */
async function ask(question: Question, stand: Stand, size: Size): Promise<Result> {
  const { name, asks } = question;
  process.stderr.write(`${name}: ${asks}\n`);
  const begun = performance.now();
  const elapsed = () => (performance.now() - begun) / 1_000;
  try {
    const figures = await question.run(stand, size);
    return { question: name, asks, figures, seconds: elapsed() };
  } catch (error) {
    process.stderr.write(`${inspect(error)}\n`);
    return { question: name, asks, figures: [], seconds: elapsed(), error: String(error) };
  }
}

/** Null when one that is asked for doesn't exist. */
function choose(only: readonly string[] | undefined): readonly Question[] | null {
  if (only === undefined) return QUESTIONS;
  const known = new Set(QUESTIONS.map(({ name }) => name));
  return only.every((name) => known.has(name))
    ? QUESTIONS.filter(({ name }) => only.includes(name))
    : null;
}

await main();
