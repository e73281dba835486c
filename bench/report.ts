import { cpus, release, totalmem, type } from 'node:os';
import { shortNumber } from './measure.ts';
import { isNoise, toCells } from './question.ts';
import type { Figure, Size } from './question.ts';

/** What one question came to. */
export interface Result {
  readonly question: string;
  readonly asks: string;
  readonly figures: readonly Figure[];
  /** How long it took to ask, in seconds. */
  readonly seconds: number;
  /** Why there are no figures. */
  readonly error?: string;
}

export interface Run {
  /** ISO 8601. */
  readonly date: string;
  readonly size: Size;
  /** How long it took from start to end, in seconds: the questions, and the server's start and stop. */
  readonly seconds: number;
  readonly machine: string;
  /** PostgreSQL's settings that the figures hang on. */
  readonly settings: Readonly<Record<string, string>>;
  readonly results: readonly Result[];
}

export function describeMachine(postgres: string): string {
  const processor = cpus()[0]?.model ?? 'unknown';
  const memory = Math.round(totalmem() / 2 ** 30);
  return `${type()} ${release()}, ${cpus().length} × ${processor}, ${memory} GiB; PostgreSQL ${postgres}, Node ${process.version}`;
}

const HEADER = ['what', 'measured', 'baseline in the same run', 'ratio', 'to reach', ''];

/** The run as one Markdown table, a row in bold before the figures of each question. */
export function render({ date, size, seconds, machine, settings, results }: Run): string {
  const figures = results.flatMap((result) => result.figures);
  const missed = figures.filter(({ reach }) => reach?.met === false).length;
  const aims = figures.filter(({ reach }) => reach !== undefined).length;
  const failed = results.filter(({ error }) => error !== undefined).length;
  const tuning = Object.entries(settings).map(([name, value]) => `${name} ${value}`);
  const lines = [HEADER, HEADER.map(() => '---'), ...results.flatMap(toRows)];
  return `${[
    `${date}, ${size} size, ${Math.round(seconds)} s. ${machine}; ${tuning.join(', ')}.`,
    '',
    'Median (lowest–highest) of the rounds; the ratio is measured by baseline. Noise: highest and lowest lie further apart than 0.3 of the median.',
    '',
    `${aims - missed} of ${aims} aims reached${failed > 0 ? `, ${failed} questions failed` : ''}, ${figures.filter(isNoise).length} of ${figures.length} figures are noise.`,
    '',
    ...lines.map((cells) => `| ${cells.join(' | ')} |`),
  ].join('\n')}\n`;
}

function toRows({ question, asks, figures, seconds, error }: Result): string[][] {
  const title = [`**${question}**: ${asks}`, `asked in ${shortNumber(seconds)} s`, '', '', '', ''];
  if (error === undefined) return [title, ...figures.map(toCells)];
  return [title, ['failed', error.split('\n', 1)[0] ?? '', '', '', '', '']];
}
