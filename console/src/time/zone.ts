/** Minutes east of UTC. */
type Offset = number;

const MINUTE = 60_000;
export const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;

const formats = new Map<string, Intl.DateTimeFormat>();
const offsets = new Map<string, Offset>();

/** Whether the browser knows this zone of the IANA's database. */
export function isZone(zone: string): boolean {
  try {
    formatOf(zone);
    return true;
  } catch {
    return false;
  }
}

function formatOf(zone: string): Intl.DateTimeFormat {
  let format = formats.get(zone);
  if (format === undefined) {
    const two = '2-digit';
    format = new Intl.DateTimeFormat('en-US', {
      ...{ timeZone: zone, calendar: 'iso8601', hourCycle: 'h23' },
      ...{
        year: 'numeric',
        month: two,
        day: two,
        hour: two,
        minute: two,
        second: two,
        era: 'short',
      },
    });
    formats.set(zone, format);
  }
  return format;
}

/**
 * The zone's offset at an instant.
 *
 * @param at milliseconds since 1970
 * @returns minutes east of UTC, a fraction where the zone had one
 * @throws RangeError of `Intl` for an unknown zone
 */
export function offsetAt(at: number, zone: string): Offset {
  // An Intl format takes some 40 µs. Since 1972 offsets have changed at quarters of an hour alone.
  const quarter = Math.floor(at / (15 * MINUTE));
  const key = `${zone} ${quarter}`;
  let offset = offsets.get(key);
  if (offset === undefined) {
    const parts: Record<string, string> = {};
    const start = quarter * 15 * MINUTE;
    for (const { type, value } of formatOf(zone).formatToParts(start)) parts[type] = value;
    const wall = Date.UTC(
      ...([Number(parts.year), Number(parts.month) - 1, Number(parts.day)] as const),
      ...([Number(parts.hour), Number(parts.minute), Number(parts.second)] as const),
    );
    offset = (wall - start) / MINUTE;
    if (offsets.size > 20_000) offsets.clear();
    offsets.set(key, offset);
  }
  return offset;
}

/** What a clock in the zone shows at an instant, as the UTC fields of a `Date`. */
export const wallAt = (at: number, zone: string): Date =>
  new Date(at + offsetAt(at, zone) * MINUTE);

/**
 * The instants at which clocks of a zone show a wall time: one, two where clocks are set back, none where they are set forward.
 * For none, `before` and `after` are the neighbours: what clocks show once it is taken with the offset behind and before the gap.
 */
export type Instants =
  | { readonly kind: 'one'; readonly at: number }
  | { readonly kind: 'two'; readonly first: number; readonly second: number }
  | { readonly kind: 'none'; readonly before: number; readonly after: number };

/** @param wall milliseconds of the wall time taken as if it were UTC */
export function instantsOf(wall: number, zone: string): Instants {
  // No two changes of a zone's offset lie within two days of each other.
  const earlier = wall - offsetAt(wall - DAY, zone) * MINUTE;
  const later = wall - offsetAt(wall + DAY, zone) * MINUTE;
  const right = [...new Set([earlier, later])].filter(
    (at) => at + offsetAt(at, zone) * MINUTE === wall,
  );
  const [first, second] = right.toSorted((a, b) => a - b);
  if (first === undefined)
    return { kind: 'none', before: Math.min(earlier, later), after: Math.max(earlier, later) };
  return second === undefined ? { kind: 'one', at: first } : { kind: 'two', first, second };
}

/** The instant of a wall time: the first of two, and behind a gap the later neighbour, as a schedule that recurs has it. */
export function instantOf(wall: number, zone: string): number {
  const found = instantsOf(wall, zone);
  if (found.kind === 'one') return found.at;
  return found.kind === 'two' ? found.first : found.after;
}

/** As `UTC+5:45`. */
export function offsetText(offset: Offset): string {
  const minutes = Math.abs(Math.round(offset));
  if (minutes === 0) return 'UTC';
  const rest = minutes % 60;
  const tail = rest === 0 ? '' : `:${String(rest).padStart(2, '0')}`;
  return `UTC${offset < 0 ? '−' : '+'}${Math.floor(minutes / 60)}${tail}`;
}

/** All zones that the browser knows, and UTC. */
export const allZones = (): readonly string[] => {
  const zones = Intl.supportedValuesOf('timeZone');
  return zones.includes('UTC') ? zones : ['UTC', ...zones];
};
