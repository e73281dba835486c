import { describeEvent } from '../audit/event_text.ts';
import { timeOfDay } from '../lib/printable.ts';

/** Characters of the columns before who did it. */
const WHAT_WIDTH = 20;
const SUBJECT_WIDTH = 24;

/**
 * An audit event as a short line for people: the time, what happened, to which flag, plan or environment, who did it, and how late.
 *
 * @param message the event's text, as it is shipped
 * @returns null for a seal, and for what is no event
 */
export function eventLine(message: string): string | null {
  const event = describeEvent(message, clock);
  if (event === null) return null;
  const { at, what, subject, who, more } = event;
  const parts = [timeOfDay(at), what.padEnd(WHAT_WIDTH), subject.padEnd(SUBJECT_WIDTH), who, more];
  return parts.join('  ').trimEnd();
}

/** The time of the day, with the date where that isn't today's. */
function clock(time: Date): string {
  const isToday = time.toDateString() === new Date().toDateString();
  return isToday ? timeOfDay(time) : `${time.toDateString()} ${timeOfDay(time)}`;
}
