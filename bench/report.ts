import { cpus, release, totalmem, type } from 'node:os';
import { shortNumber } from './measure.ts';
import { isNoise, toCells } from './benchmark.ts';
import type { Figure, Size } from './benchmark.ts';

/** The result of one benchmark. */
export interface Result {
  readonly benchmark: string;
  readonly description: string;
  readonly figures: readonly Figure[];
  /** How long it took, in seconds. */
  readonly seconds: number;
  /** Why there are no figures. */
  readonly error?: string;
}

export interface Run {
  /** ISO 8601. */
  readonly date: string;
  readonly size: Size;
  /** How long it took from start to end, in seconds: the benchmarks, and the server's start and stop. */
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

const HEADER = ['what', 'measured', 'baseline in the same run', 'ratio', 'target', ''];

/** The run as one Markdown table, a row in bold before the figures of each benchmark. */
export function render({ date, size, seconds, machine, settings, results }: Run): string {
  const figures = results.flatMap((result) => result.figures);
  const missed = figures.filter(({ target }) => target?.met === false).length;
  const targets = figures.filter(({ target }) => target !== undefined).length;
  const failed = results.filter(({ error }) => error !== undefined).length;
  const tuning = Object.entries(settings).map(([name, value]) => `${name} ${value}`);
  const lines = [HEADER, HEADER.map(() => '---'), ...results.flatMap(toRows)];
  return `${[
    `${date}, ${size} size, ${Math.round(seconds)} s. ${machine}; ${tuning.join(', ')}.`,
    '',
    'Median (lowest–highest) of the rounds; the ratio is measured by baseline. Noise: highest and lowest lie further apart than 0.3 of the median.',
    '',
    `${targets - missed} of ${targets} targets reached${failed > 0 ? `, ${failed} benchmarks failed` : ''}, ${figures.filter(isNoise).length} of ${figures.length} figures are noise.`,
    '',
    ...lines.map((cells) => `| ${cells.join(' | ')} |`),
  ].join('\n')}\n`;
}

function toRows({ benchmark, description, figures, seconds, error }: Result): string[][] {
  const title = [
    `**${benchmark}**: ${description}`,
    `took ${shortNumber(seconds)} s`,
    '',
    '',
    '',
    '',
  ];
  if (error === undefined) return [title, ...figures.map(toCells)];
  return [title, ['failed', error.split('\n', 1)[0] ?? '', '', '', '', '']];
}
