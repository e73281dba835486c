/** Characters of one value in a line for people. */
const MAX_LENGTH = 200;

/**
 * A text as a terminal may show it, in one line: control and invisible characters, which could move its cursor or rewrite what it
 * shows, become �, and what is too long is cut.
 */
export function printable(text: string): string {
  const clean = text.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, '�');
  return clean.length > MAX_LENGTH ? `${clean.slice(0, MAX_LENGTH)}…` : clean;
}

/** The time of the day here, as in 09:00:00. */
export function timeOfDay(time: Date): string {
  return time.toTimeString().slice(0, 8);
}
