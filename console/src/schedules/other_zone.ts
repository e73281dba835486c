const NEW_YORK = 'America/New_York';

/** The zone that an instant is shown in beside its own and UTC: the display's, the browser's or New York, the first that is another. */
export function otherZone(zone: string, display: string, browser: string): string | null {
  const known = [zone, 'UTC', 'Etc/UTC'];
  return [display, browser, NEW_YORK].find((one) => !known.includes(one)) ?? null;
}

/** As `New York`. */
export const cityOf = (zone: string): string =>
  (zone.split('/').at(-1) ?? zone).replaceAll('_', ' ');
