/** What the processes of a site logged, counted. */
export interface LogWatch {
  readonly onLine: (line: string) => void;
  /** How often each message of that level was logged. */
  messages(level: 'info' | 'warn' | 'error'): ReadonlyMap<string, number>;
  /** Lines that are no JSON; the first twenty of them. */
  readonly broken: { count: number; readonly lines: string[] };
}

const KEPT = 20;

/** Counts what is given to `onLine`. */
export function watchLog(): LogWatch {
  const byLevel = new Map<string, Map<string, number>>();
  const broken = { count: 0, lines: [] as string[] };
  const of = (level: string) => byLevel.get(level) ?? new Map<string, number>();
  return {
    broken,
    messages: of,
    onLine(line) {
      const entry = parse(line);
      if (entry === null) {
        broken.count++;
        if (broken.lines.length < KEPT) broken.lines.push(line);
        return;
      }
      const { level, msg = '' } = entry;
      byLevel.set(level, of(level).set(msg, (of(level).get(msg) ?? 0) + 1));
    },
  };
}

function parse(line: string): { level: string; msg?: string } | null {
  try {
    const value = JSON.parse(line) as { level?: unknown; msg?: string } | null;
    return typeof value?.level === 'string' ? (value as { level: string; msg?: string }) : null;
  } catch {
    return null;
  }
}
