/** Parsers of arguments, for commander. */
import { InvalidArgumentError } from 'commander';

/** A parser of arguments that match a pattern; of others it says what to give. */
export function matching(pattern: RegExp, advice: string): (text: string) => string {
  return (text) => {
    if (!pattern.test(text)) throw new InvalidArgumentError(advice);
    return text;
  };
}

export const notEmpty = matching(/./s, 'Give a name.');
export const uuid = matching(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i, 'Give a UUID.');

/** Of an option that may be given several times: all values. */
export function collect(text: string, before: readonly string[] = []): string[] {
  return [...before, text];
}
