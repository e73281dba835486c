import { printable } from '../lib/printable.ts';

/**
 * Rows as lines of columns that stand under each other, for people. Values are printed as one line each, without control
 * characters.
 *
 * @param head the names of the columns
 * @param rows as many values each; an empty one is an empty place
 */
export function formatTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const table = [head, ...rows.map((row) => row.map((value) => printable(value)))];
  const widths = head.map((_, i) => Math.max(...table.map((line) => line[i]?.length ?? 0)));
  return table.map((line) => `${formatLine(line, widths)}\n`).join('');
}

function formatLine(line: readonly string[], widths: readonly number[]): string {
  return line
    .map((value, i) => value.padEnd(widths[i] ?? 0))
    .join('  ')
    .trimEnd();
}
