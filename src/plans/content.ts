/** What a plan does, as the table has it (migrations/fixtures/plans/content.sql). */
export interface PlanContent {
  readonly steps: readonly { readonly changes: readonly ContentChange[] }[];
  /** ISO 8601; null for a plan that was due when it was made. */
  readonly startsAt: string | null;
}

/** A change, with its flag by id, key and environment. What its author left out isn't there. */
export interface ContentChange {
  readonly flagId: string;
  readonly flagKey: string;
  readonly environment: string;
  /** By column, as `expects`. */
  readonly updates: Readonly<Record<string, unknown>>;
  readonly expects?: Readonly<Record<string, unknown>>;
  readonly onConflict?: string;
}

/** A change in the shape of the database's functions, and of REST. */
export interface RequestedChange {
  readonly flag_key: string;
  readonly environment: string;
  readonly updates: Readonly<Record<string, unknown>>;
  readonly expects?: Readonly<Record<string, unknown>>;
  readonly on_conflict?: string;
}

/** The steps in the shape in which they were sent, so that they can be sent again. */
export function requestedSteps({ steps }: PlanContent): { changes: RequestedChange[] }[] {
  return steps.map(({ changes }) => ({ changes: changes.map(requestedChange) }));
}

function requestedChange(change: ContentChange): RequestedChange {
  const { flagKey, environment, updates, expects, onConflict } = change;
  return {
    ...{ flag_key: flagKey, environment, updates },
    ...(expects && { expects }),
    ...(onConflict !== undefined && { on_conflict: onConflict }),
  };
}

/** What the content of a plan that changes this flag contains; of any environment unless one is given. */
export function contentOf(flagKey: string, environment?: string) {
  return { steps: [{ changes: [{ flagKey, ...(environment !== undefined && { environment }) }] }] };
}
