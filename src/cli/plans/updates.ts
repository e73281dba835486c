/** Values by column, as a change sets or expects them. */
export type Values = Readonly<Record<string, unknown>>;

/** As `column: value, column: value`; empty for none. */
export function describeValues(values: Values | null | undefined): string {
  return Object.entries(values ?? {})
    .map(([name, value]) => `${name}: ${JSON.stringify(value)}`)
    .join(', ');
}

/** A time in UTC, to the second. */
export function describeTime(time: Date | null): string {
  return time === null ? '' : time.toISOString().replace(/\.\d+Z$/, 'Z');
}
