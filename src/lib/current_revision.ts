/** A row that has changed since a client read it. */
export interface CurrentRevision {
  readonly revision: number;
  /** ISO 8601 with milliseconds, in UTC; null where it is not known. */
  readonly changedAt: string | null;
  /** The e-mail address or the id of the admin who changed it; null where it was no admin, or it is not known. */
  readonly changedBy: string | null;
}

const CODES: ReadonlySet<string> = new Set(['flag_changed', 'schedule_changed', 'plan_changed']);

/**
 * Reads what the database says of the row beside its sentence (app_private.stale_detail()).
 *
 * @param code of the problem
 * @param detail of the database's error; that of another code, or of an administrator's trigger, is passed over
 */
export function readCurrentRevision(
  code: string,
  detail: string | undefined,
): { readonly current?: CurrentRevision } {
  if (!CODES.has(code) || detail === undefined) return {};
  try {
    const { revision, changedAt, changedBy } = JSON.parse(detail) as Record<string, unknown>;
    if (typeof revision !== 'number') return {};
    return {
      current: {
        revision,
        changedAt: typeof changedAt === 'string' ? new Date(changedAt).toISOString() : null,
        changedBy: typeof changedBy === 'string' ? changedBy : null,
      },
    };
  } catch {
    return {};
  }
}
