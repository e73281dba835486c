import { cpus, release, totalmem, type } from 'node:os';
import { mkdir, writeFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import type { Figure, Question, Size } from './question.ts';
import { toCells } from './question.ts';
import { startStand } from './stand.ts';
import { QUESTIONS } from './questions.ts';

const OPTIONS = {
  only: { type: 'string', multiple: true },
  json: { type: 'boolean', default: false },
  smoke: { type: 'boolean', default: false },
  full: { type: 'boolean', default: false },
} as const;

const USAGE = `Usage: npm run bench -- [--only NAME]… [--smoke | --full] [--json]\nQuestions: ${QUESTIONS.map(({ name }) => name).join(', ')}\n`;

interface Result {
  readonly question: string;
  readonly asks: string;
  readonly figures: readonly Figure[];
}

/** Asks each question in turn, prints one table, and keeps the results of a usual or full run. */
async function main(): Promise<void> {
  const { values } = parseArgs({ options: OPTIONS });
  const chosen = choose(values.only);
  if (chosen === null) {
    process.stderr.write(USAGE);
    process.exitCode = 2;
    return;
  }
  const size: Size = values.smoke ? 'smoke' : values.full ? 'full' : 'usual';
  const stand = await startStand();
  const machine = describeMachine(stand.version);
  const results: Result[] = [];
  try {
    for (const question of chosen) {
      process.stderr.write(`${question.name}: ${question.asks}\n`);
      const figures = await question.run(stand, size);
      results.push({ question: question.name, asks: question.asks, figures });
    }
  } finally {
    await stand.stop();
  }
  process.stdout.write(
    values.json
      ? `${JSON.stringify({ machine, size, results }, null, 2)}\n`
      : render(machine, results),
  );
  if (size !== 'smoke') await keep({ machine, size, results });
}

/** Null when one that is asked for doesn't exist. */
function choose(only: readonly string[] | undefined): readonly Question[] | null {
  if (only === undefined) return QUESTIONS;
  const known = new Set(QUESTIONS.map(({ name }) => name));
  return only.every((name) => known.has(name))
    ? QUESTIONS.filter(({ name }) => only.includes(name))
    : null;
}

function describeMachine(postgres: string): string {
  const processor = cpus()[0]?.model ?? 'unknown';
  const memory = Math.round(totalmem() / 2 ** 30);
  return `${type()} ${release()}, ${cpus().length} × ${processor}, ${memory} GiB; PostgreSQL ${postgres}, Node ${process.version}`;
}

function render(machine: string, results: readonly Result[]): string {
  const header = ['question', 'what', 'measured', 'baseline in the same run', 'ratio', 'to reach'];
  const rows = results.flatMap(({ question, figures }) =>
    figures.map((figure) => [question, ...toCells(figure)]),
  );
  const lines = [header, header.map(() => '---'), ...rows].map(
    (cells) => `| ${cells.join(' | ')} |`,
  );
  return `${machine}\nMedian (lowest–highest) of the rounds.\n\n${lines.join('\n')}\n`;
}

async function keep(run: object): Promise<void> {
  const folder = new URL('results/', import.meta.url);
  await mkdir(folder, { recursive: true });
  const name = `${new Date().toISOString().replaceAll(':', '').slice(0, 15)}.json`;
  await writeFile(new URL(name, folder), `${JSON.stringify(run, null, 2)}\n`);
}

await main();
