/** One operation whose success a client was told of: from then on it must be found. */
export interface Promise2xx {
  /** The client's. */
  readonly requestId: string;
  /** The event that tells of it. */
  readonly eventType: string;
  /** The flag or schedule that it made or changed. */
  readonly rowId: string;
}

/** What clients were answered, in the order of the answers. */
export interface Journal {
  readonly promises: readonly Promise2xx[];
  /** Requests without an answer, or with a 5xx: either outcome is right. */
  readonly unknown: readonly string[];
  /** Answers by status. */
  readonly statuses: ReadonlyMap<number, number>;
  promised(promise: Promise2xx): void;
  answered(status: number): void;
  unanswered(requestId: string): void;
}

export function makeJournal(): Journal {
  const promises: Promise2xx[] = [];
  const unknown: string[] = [];
  const statuses = new Map<number, number>();
  return {
    promises,
    unknown,
    statuses,
    promised: (promise) => void promises.push(promise),
    answered: (status) => void statuses.set(status, (statuses.get(status) ?? 0) + 1),
    unanswered: (requestId) => void unknown.push(requestId),
  };
}
