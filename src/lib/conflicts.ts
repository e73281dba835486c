/** A field of a flag that isn't as a change expects. */
export interface FoundConflict {
  readonly flagKey: string;
  readonly environment: string;
  /** The field's column. */
  readonly field: string;
  readonly expected: unknown;
  readonly found: unknown;
}

/**
 * Reads what the database says of a refused change beside its sentence (app_public.change_flags()).
 *
 * @param code of the problem
 * @param detail of the database's error; that of another code, or of an administrator's trigger, is passed over
 */
export function readConflicts(
  code: string,
  detail: string | undefined,
): { readonly conflicts?: readonly FoundConflict[] } {
  if (code !== 'change_conflict' || detail === undefined) return {};
  try {
    const rows: unknown = JSON.parse(detail);
    return Array.isArray(rows) ? { conflicts: rows.map(conflictOf) } : {};
  } catch {
    return {};
  }
}

function conflictOf(row: Record<string, unknown>): FoundConflict {
  const { flag_key, environment, field, expected = null, found = null } = row;
  return {
    flagKey: String(flag_key),
    environment: String(environment),
    field: String(field),
    ...{ expected, found },
  };
}
