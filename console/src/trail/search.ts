import { parseSearch } from '../search.ts';
import { parseDate, parseDateTime, parseSpan, wallOf } from '../time/parse.ts';
import { instantOf } from '../time/zone.ts';
import type { TrailEvent } from './documents.ts';
import { actorName } from './event_text.ts';
import { typesMatching } from './event_types.ts';

/** The filters of the trail's search, with what stands behind each. */
export const TRAIL_FILTERS: Readonly<Record<string, string>> = {
  flag: 'the key of a flag',
  type: 'a type, as flag_schedule.*',
  by: 'an e-mail address, a user id, worker, system or database',
  env: 'an environment, or all',
  since: 'a time, as -24h or 2026-11-26',
  until: 'a time',
  request: 'the id of a request',
  level: 'info, warning or error',
  schedule: 'the id of a schedule',
  seq: 'the number of an event',
};

/** What the server narrows the trail by: AuditEventCondition. A key that is left out narrows nothing. */
export type Condition = Readonly<Record<string, string>>;

export interface TrailSearch {
  readonly condition: Condition;
  /** The types that are asked for; none: all. */
  readonly types: readonly string[];
  /** In lower case: each is a part of a flag's key, or the beginning of an id. The page looks for them itself. */
  readonly words: readonly string[];
  /** An id as a whole: of an event, a schedule or a request. */
  readonly id: string | null;
  /** A name that may be a user's id, or the first part of an e-mail address. */
  readonly person: string | null;
  /** What it can't use, a sentence each. */
  readonly problems: readonly string[];
}

interface Context {
  readonly zone: string;
  /** Milliseconds since 1970. */
  readonly now: number;
  /** The environment that the frame shows; null for all. */
  readonly environment: string | null;
}

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const KINDS = ['worker', 'system', 'database', 'admin'];

/** Reads a time of the search: `-24h`, `24h` (ago), `2026-11-26`, `"yesterday 9:00"`, or an instant. */
export function readTime(text: string, { zone, now }: Context): string | null {
  const span = parseSpan(text);
  if (span !== null) return new Date(now - Math.abs(span)).toISOString();
  const exact = /^\d{4}-\d\d-\d\dT[\d:.]+(Z|[+-]\d\d:\d\d)$/.test(text) ? Date.parse(text) : NaN;
  if (!Number.isNaN(exact)) return new Date(exact).toISOString();
  const date = parseDate(text, zone, now);
  const found = date === null ? parseDateTime(text, zone, now) : { date, time: '00:00:00' };
  if (found === null) return null;
  return new Date(instantOf(wallOf(found.date, found.time), zone)).toISOString();
}

/** Reads the text of the search field. What it can't use it leaves out, and says. */
export function readSearch(text: string, context: Context): TrailSearch {
  const { words, filters, unknown } = parseSearch(text, Object.keys(TRAIL_FILTERS));
  const condition: Record<string, string> = {};
  const problems = unknown.map((what) => `unknown: ${what}`);
  let types: readonly string[] = [];
  let person: string | null = null;
  let id = null as string | null;
  const last = (key: string): string | null => {
    const values = filters.get(key) ?? [];
    if (values.length > 1) problems.push(`${key}: the last of ${values.length} counts`);
    return values.at(-1) ?? null;
  };
  const take = (key: string, field: string, isRight: (value: string) => boolean, what: string) => {
    const value = last(key);
    if (value === null) return;
    if (isRight(value)) condition[field] = value;
    else problems.push(`${key}: ${what}`);
  };
  const flag = last('flag');
  if (flag !== null) condition.flagKey = flag;
  take(
    'level',
    'level',
    (value) => ['info', 'warning', 'error'].includes(value),
    'info, warning or error',
  );
  take('request', 'requestId', () => true, '');
  take('schedule', 'scheduleId', (value) => UUID.test(value), 'the whole id of a schedule');
  take('seq', 'seq', (value) => /^\d{1,15}$/.test(value), 'the number of an event');
  for (const [key, field] of [
    ['since', 'occurredFrom'],
    ['until', 'occurredBefore'],
  ] as const) {
    const value = last(key);
    const at = value === null ? null : readTime(value, context);
    if (at !== null) condition[field] = at;
    else if (value !== null) problems.push(`${key}: no time: ${value}`);
  }
  const type = last('type');
  if (type !== null) {
    types = typesMatching(type);
    const [only] = types;
    if (only === undefined) problems.push(`type: no type begins with ${type}`);
    else if (types.length === 1) condition.eventType = only;
    else condition.eventTypePattern = `${type.toLowerCase().replace(/\*+$/, '')}*`;
  }
  const by = last('by');
  if (by !== null) {
    if (KINDS.includes(by)) condition.actorKind = by;
    else if (by.includes('@')) condition.adminEmail = by;
    else person = by;
  }
  const left = words.filter((word) => {
    if (UUID.test(word)) id = word;
    else if (/^#?[\d,]+$/.test(word) && /\d/.test(word)) condition.seq = word.replace(/[#,]/g, '');
    else return true;
    return false;
  });
  // What is asked for by its number or id is found wherever it is.
  const isOne = id !== null || ['seq', 'requestId', 'scheduleId'].some((name) => name in condition);
  const environment = last('env') ?? (isOne ? null : context.environment);
  if (environment !== null && environment !== 'all') condition.environment = environment;
  return { condition, types, words: left, id, person, problems };
}

/** Whether an event is what the words ask for, which the server doesn't look for. */
export function matches(
  event: TrailEvent,
  words: readonly string[],
  person: string | null,
): boolean {
  const ids = [event.id, event.scheduleId, event.requestId, event.clientRequestId];
  const isFound = (word: string): boolean =>
    (event.flagKey ?? '').toLowerCase().includes(word) ||
    ids.some((one) => one?.toLowerCase().startsWith(word) === true);
  const names = [actorName(event), event.adminEmail, event.adminUserId, event.databaseUser];
  return (
    words.every(isFound) &&
    (person === null || names.some((name) => name?.toLowerCase() === person.toLowerCase()))
  );
}
