import { open } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { NotCheckedError } from './exit_with.ts';

/**
 * The lines of a text file, read one by one; `-` is standard input.
 *
 * @throws NotCheckedError when it can't be read
 */
export async function* linesOf(file: string): AsyncGenerator<string> {
  if (file === '-') {
    yield* createInterface({ input: process.stdin, crlfDelay: Infinity });
    return;
  }
  try {
    await using handle = await open(file);
    yield* handle.readLines({ encoding: 'utf8' });
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new NotCheckedError(`${file} can't be read (${reason}).`, { cause: error });
  }
}

/** All of a small file's text; `-` is standard input. */
export async function textOf(file: string): Promise<string> {
  const lines: string[] = [];
  for await (const line of linesOf(file)) lines.push(line);
  return lines.join('\n');
}
