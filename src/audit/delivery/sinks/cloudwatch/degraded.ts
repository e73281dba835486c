import type { Logger } from '../../../../lib/log.ts';
import type { Entry } from './batch.ts';

/** What a sink has delivered other than plainly, since it was made. */
export interface Exceptions {
  /** Stamped with the time of sending: too old for the service. */
  readonly late: number;
  /** Stamped with the time of sending: too far ahead of the service's clock. */
  readonly ahead: number;
  /** Represented by a stub. */
  readonly stubbed: number;
}

/** How many events a warning lists one by one. */
const LISTED = 20;

/** Keeps count of unusual deliveries, with one warning a batch: after an outage every event of a backlog is late. */
export function makeExceptionCounter(log: Logger) {
  const counts = { late: 0, ahead: 0, stubbed: 0 };

  function noteAs(kind: keyof Exceptions, entries: readonly Entry[]): void {
    if (entries.length === 0) return;
    counts[kind] += entries.length;
    const events = entries
      .slice(0, LISTED)
      .map(({ event: { seq, occurredAt } }) => ({ seq, occurredAt }));
    log.warn({ kind, count: entries.length, events }, 'audit events were not delivered plainly');
  }

  return {
    /** Counts and logs what is unusual about entries that have arrived. */
    note(delivered: readonly Entry[]): void {
      const restampedAs = (why: Entry['restamped']) =>
        delivered.filter(({ restamped }) => restamped === why);
      noteAs('late', restampedAs('late'));
      noteAs('ahead', restampedAs('ahead'));
      const stubs = delivered.filter(({ stub }) => stub !== null);
      noteAs('stubbed', stubs);
    },
    counts: (): Exceptions => ({ ...counts }),
  };
}
