import type { FlagRow } from './model.ts';

/**
 * Rows in the places that they had, with what they say now: so that none moves under the pointer when something changes.
 *
 * @param rows in their new order
 * @param before the rows as they stand; where others have come, the new order holds
 */
export function steady(rows: readonly FlagRow[], before: readonly FlagRow[]): readonly FlagRow[] {
  const now = new Map(rows.map((row) => [row.flag.id, row]));
  if (now.size !== before.length) return rows;
  const kept: FlagRow[] = [];
  for (const { flag, group } of before) {
    const row = now.get(flag.id);
    if (row === undefined) return rows;
    kept.push(row.group === group ? row : { ...row, group });
  }
  return kept;
}
