/** Characters of one value in a line for people. */
const MAX_LENGTH = 200;
/** Characters of one sentence of the log: it says what to do at its end. */
export const SENTENCE_LENGTH = 2_000;

/**
 * A text as a terminal may show it, in one line: control and invisible characters, which could move its cursor or rewrite what it
 * shows, become �, and what is too long is cut.
 */
export function printable(text: string, maxLength = MAX_LENGTH): string {
  return shorten(text.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, '�'), maxLength);
}

/** The text, or its beginning and … where it is longer than `maxLength` characters. */
export function shorten(text: string, maxLength: number): string {
  return text.length > maxLength ? `${text.slice(0, maxLength)}…` : text;
}

/** The time of the day here, as in 09:00:00. */
export function timeOfDay(time: Date): string {
  return time.toTimeString().slice(0, 8);
}
