import { parseJson } from './json.ts';
import { printable, SENTENCE_LENGTH, timeOfDay } from './printable.ts';

type Line = Readonly<Record<string, unknown>>;

/** Fields that every line has, or that say nothing to the person in front of this process. */
const UNSAID = new Set(
  'level time pid env name msg err error requestId clientRequestId method path status responseTime'.split(
    ' ',
  ),
);

/** Levels that a person has to act on, or that are shown only on demand: what a line says besides its message. */
const WORDS: Readonly<Record<string, string>> = {
  trace: 'trace: ',
  debug: 'debug: ',
  warn: 'warning: ',
  error: 'ERROR: ',
  fatal: 'ERROR: ',
};

/**
 * Writes each JSON line of the log as a short one for people: the time, what happened, and the fields in brackets. Errors have their
 * causes; those that somebody must act on their stack as well.
 *
 * @param destination where the lines go
 */
export function makeTextStream(destination: { write(text: string): unknown }) {
  return {
    write(json: string): void {
      const line = parseJson(json);
      const isLine = typeof line === 'object' && line !== null;
      destination.write(isLine ? `${textOf(line as Line)}\n` : json);
    },
  };
}

/** A line of the log, parsed, as text without a newline at its end. */
export function textOf(line: Line): string {
  const time = timeOfDay(new Date(String(line.time)));
  const said =
    line.msg === 'request' ? requestOf(line) : printable(String(line.msg), SENTENCE_LENGTH);
  const word = WORDS[String(line.level)] ?? '';
  const error = line.err ?? line.error;
  const causes = causesOf(error).map((cause) => `: ${printable(cause, SENTENCE_LENGTH)}`);
  const isStackShown = word === WORDS.error;
  return `${time}  ${word}${said}${causes.join('')}${fieldsOf(line)}${isStackShown ? stackOf(error) : ''}`;
}

function requestOf({ method, path, status, responseTime }: Line): string {
  const answer = status === null ? 'its client went away' : show(status);
  return `${show(method)} ${show(path)}  ${answer}, ${show(responseTime)} ms`;
}

function fieldsOf(line: Line): string {
  const fields = Object.entries(line)
    .filter(([name, value]) => !UNSAID.has(name) && value !== null && value !== undefined)
    .map(([name, value]) => `${name}: ${show(value)}`);
  return fields.length === 0 ? '' : `  (${fields.join(', ')})`;
}

function show(value: unknown): string {
  return printable(typeof value === 'string' ? value : JSON.stringify(value));
}

/** The message of an error and of its causes, each once. */
function causesOf(error: unknown): string[] {
  const messages: string[] = [];
  for (let at = error; typeof at === 'object' && at !== null; at = Reflect.get(at, 'cause')) {
    const message: unknown = Reflect.get(at, 'message');
    if (typeof message === 'string' && message !== '' && !messages.includes(message))
      messages.push(message);
  }
  return messages;
}

function stackOf(error: unknown): string {
  const stack: unknown = typeof error === 'object' && error !== null && Reflect.get(error, 'stack');
  if (typeof stack !== 'string') return '';
  const frames = stack.split('\n').filter((line) => /^\s+at /.test(line));
  return frames.map((frame) => `\n${frame.replace(/\p{C}/gu, '')}`).join('');
}
