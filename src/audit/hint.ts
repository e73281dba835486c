/** That something changed, as migrations/fixtures/audit/record/notify.sql sends it: ids only, which the rows must confirm. */
export interface Hint {
  readonly events: readonly string[];
  readonly schedules: readonly string[];
  readonly plans: readonly string[];
  /** More may have changed than these ids say. */
  readonly partial: boolean;
}

/** How json_build_object begins and ends a payload of notify.sql. */
const START = '{"events" : ';
const END = '}';
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** Whether a payload may be a hint. Any login may notify, and as often as it likes: so this takes the same time for all payloads. */
export function looksLikeHint(payload: string): boolean {
  return payload.startsWith(START) && payload.endsWith(END);
}

/** The hint in a payload that looks like one; null when it isn't one. */
export function parseHint(payload: string): Hint | null {
  try {
    const hint = JSON.parse(payload) as Record<string, unknown>;
    return {
      events: uuidsIn(hint.events),
      schedules: uuidsIn(hint.schedules),
      plans: uuidsIn(hint.plans),
      partial: hint.truncated === true,
    };
  } catch {
    return null;
  }
}

function uuidsIn(value: unknown): string[] {
  if (!Array.isArray(value)) return [];
  return value.filter((id): id is string => typeof id === 'string' && UUID.test(id));
}
