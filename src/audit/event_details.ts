import { printable } from '../lib/printable.ts';
import { asFields, changesOf, durationOf, whenOf, type Clock, type Fields } from './event_words.ts';

/** What an event's metadata say of a change, in words; empty where they say nothing. */
type Describe = (metadata: Fields, clock: Clock) => readonly string[];

/** Of the types whose metadata are no fields of a flag before and after. */
const DETAILS: Readonly<Record<string, Describe>> = {
  'flag_plan.created': ({ content, firstAt }, clock) => [
    countChanges(content),
    dueAt(firstAt, clock),
  ],
  'flag_plan.updated': ({ before, after }, clock) =>
    planEdit(asFields(before), asFields(after), clock),
  'flag_plan.resumed': ({ nextAt }, clock) => [dueAt(nextAt, clock)],
  'flag_plan.completed': ({ skipped }) => [Number(skipped) > 0 ? 'skipped' : ''],
  'flag_schedule.suspended': (metadata) => [suspension(metadata)],
  'flag_schedule.applied': ({ kept }) => [
    Array.isArray(kept)
      ? `left as found: ${kept.map((name) => printable(String(name))).join(', ')}`
      : '',
  ],
  'environment.resumed': ({ applied, skipped, stoppedForMs }) => [
    `${Number(applied)} to apply`,
    `${Number(skipped)} skipped`,
    typeof stoppedForMs === 'number' ? `stopped for ${durationOf(stoppedForMs)}` : '',
  ],
};

/**
 * What changed, in words for people.
 *
 * @param type of the event
 * @returns parts of a sentence, some of them empty
 */
export function detailsOf(type: string, metadata: Fields, clock: Clock): readonly string[] {
  const describe = DETAILS[type];
  if (describe !== undefined) return describe(metadata, clock);
  const { before, after } = metadata;
  // The states of plans and environments are long, or say what stands beside them.
  if (/^(flag_plan|environment)[.]/.test(type) || typeof before !== 'object') return [];
  return [changesOf(asFields(before), asFields(after))];
}

function planEdit(before: Fields, after: Fields, clock: Clock): readonly string[] {
  const { title, status, nextAt } = after;
  const [was, is] = [before, after].map(({ content }) => JSON.stringify(asFields(content).steps));
  return [
    changesOf({ title: before.title, status: before.status }, { title, status }),
    was === is ? '' : countChanges(after.content),
    nextAt === before.nextAt ? '' : dueAt(nextAt, clock),
  ];
}

/** As in `4 changes`. */
function countChanges(content: unknown): string {
  const { steps } = asFields(content);
  if (!Array.isArray(steps)) return '';
  const lists = steps.map((step) => asFields(step).changes);
  const count = lists.reduce<number>(
    (sum, list) => sum + (Array.isArray(list) ? list.length : 0),
    0,
  );
  return count === 1 ? '1 change' : `${count} changes`;
}

function dueAt(time: unknown, clock: Clock): string {
  return typeof time === 'string' ? `at ${whenOf(time, clock)}` : '';
}

/** Why a schedule wasn't applied. Without details it waits for others of its plan. */
function suspension({ for: cause, details }: Fields): string {
  const { environment, expected, found } = asFields(details);
  if (cause === 'stop')
    return typeof environment === 'string'
      ? `${printable(environment)} is stopped`
      : 'stopped with its plan';
  if (found === undefined) return 'waits for the rest of its plan';
  return `found ${changesOf({}, asFields(found))}, expected ${changesOf({}, asFields(expected))}`;
}
