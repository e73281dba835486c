import type { AuditEvent } from './sink.ts';
import { sealEvents, type Query, type Sealed } from './outbox.ts';

/** How far numbering has got. skimmed: all but what was committed late; busy: another destination's forwarder is numbering. */
export type Numbered = 'more' | 'all' | 'skimmed' | 'busy';

/** What one look has come to. */
export interface Found {
  readonly numbered: Numbered;
  /** The events that it numbered, and their seal's record. */
  readonly events: readonly AuditEvent[];
}

/** The most that one seal holds. */
const SEAL = 1_000;
/** A look at the whole queue that takes no longer than this, besides what sealing takes, is free. */
const FREE_LOOK_MS = 100;
const SEALING_MS = 0.1;
/** Otherwise it may take this part of the time. */
const LOOK_SHARE = 0.1;

/**
 * Numbers the queue in order, and remembers where it has got: while an old transaction is open on the server, a backup for
 * instance, a look from the start walks over all numbered rows. So a run goes on from the last row that was taken, and looks
 * from the start at its end, for what was committed late under a lower id; when that gets expensive, not in each run.
 *
 * @param freeLookMs milliseconds that a look from the start may take in each run
 */
export function makeNumbering(freeLookMs = FREE_LOOK_MS) {
  let last = '0';
  let after = '0';
  let lookAt = 0;

  function judgeLook({ sealed, lastId }: Sealed, ms: number): Numbered {
    if (sealed === null) return 'busy';
    const tookMs = ms - sealed * SEALING_MS;
    lookAt = tookMs <= freeLookMs ? 0 : performance.now() + tookMs / LOOK_SHARE;
    // What it took may have come late: a run goes on only forward.
    if (lastId !== null && BigInt(lastId) > BigInt(last)) last = lastId;
    if (sealed < SEAL) return 'all';
    after = last;
    return 'more';
  }

  function judgeStep({ sealed, lastId }: Sealed): Numbered {
    if (sealed === null) return 'busy';
    if (lastId !== null) last = after = lastId;
    if (sealed === SEAL) return 'more';
    if (performance.now() < lookAt) return 'skimmed';
    after = '0';
    return 'more';
  }

  return {
    /** Begins a run. */
    begin(): void {
      after = performance.now() < lookAt ? last : '0';
    },
    /** Numbers and seals the next queued events. */
    async next(query: Query): Promise<Found> {
      const looks = after === '0';
      const began = performance.now();
      const sealed = await sealEvents(query, SEAL, after);
      const numbered = looks ? judgeLook(sealed, performance.now() - began) : judgeStep(sealed);
      return { numbered, events: sealed.events };
    },
  };
}
