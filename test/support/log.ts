import { makeLogger } from '../../src/lib/log.ts';
import type { Logger } from '../../src/lib/log.ts';

export type LogLine = Record<string, unknown>;

/** Halyard's logger with its lines kept in `lines`, parsed, instead of written. */
export function makeTestLog(): { log: Logger; lines: LogLine[]; text: () => string } {
  const written: string[] = [];
  const lines: LogLine[] = [];
  const log = makeLogger({ logLevel: 'trace', nodeEnv: 'test' }, 'test', {
    write(line) {
      written.push(line);
      lines.push(JSON.parse(line) as LogLine);
    },
  });
  return { log, lines, text: () => written.join('') };
}
