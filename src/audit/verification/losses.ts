import type pg from 'pg';
import type { Anchor } from './copy.ts';

/** What a copy has of a history that was given up when the restore of an older state was accepted. */
export interface Loss {
  /** When it was accepted, ISO 8601, and why. */
  readonly acceptedAt: string;
  readonly reason: string;
  /** The copy's seals of it, and the events that they or the copy's events of it have; null for none. */
  readonly seals: Range | null;
  readonly events: Range | null;
}

interface Range {
  readonly first: number;
  readonly last: number;
}

/** An accepted loss as the database has it. */
interface Accepted {
  readonly acceptedAt: string;
  readonly reason: string;
  /** Where the incarnation begins that followed. */
  readonly firstSeal: number;
  readonly firstSeq: number;
  /**
   * How far the lost history goes, as far as it was recorded; Infinity where that is unknown. Its seals by time and not by number:
   * a history that was given up before it, and that the database doesn't know of, may have had more of them.
   */
  readonly lastSeq: number;
  readonly sealedAt: string;
}

/**
 * Reads which losses were accepted, to sort seals and events of a copy into those and others.
 *
 * @param pool as an auditor without limits
 */
export async function readLosses(pool: pg.Pool) {
  const { rows: lives } = await pool.query<{ trail: string; id: string }>(
    'select i.trail, i.id from audit.incarnations i order by i.incarnation_no',
  );
  // A copy's original lives on: what it seals later is no loss of the copy's.
  const { rows } = await pool.query<Accepted>(
    `select
       to_char(i.started_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as "acceptedAt", i.reason,
       i.first_seal::float as "firstSeal", i.first_seq::float as "firstSeq",
       coalesce(max(d.last_seq)::float, 'Infinity') as "lastSeq",
       case
         when i.trail <> b.trail then 'infinity'
         else to_char(coalesce(max(d.sealed_at), i.started_at) at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
       end as "sealedAt"
     from audit.incarnations i
     join audit.incarnations b on b.incarnation_no = i.incarnation_no - 1
     left join audit.divergences d on d.found_in = b.incarnation_no
     group by i.incarnation_no, b.trail
     order by i.incarnation_no`,
  );
  const losses = rows.map((accepted) => ({ accepted, seals: makeRange(), events: makeRange() }));
  const known = new Set(lives.map(({ trail }) => trail));
  const past = new Set(lives.slice(0, -1).map(({ id }) => id));
  const present = lives.at(-1)?.trail;

  return {
    /** Whether an anchor is of a trail that this database has never been a part of, or of the original that it is a copy of. */
    isForeign: ({ trail }: Pick<Anchor, 'trail'>) => !known.has(trail),
    /** Whether an anchor is of an incarnation that was given up. */
    isPast: ({ incarnation }: Anchor) => past.has(incarnation),
    /** Whether the loss of this seal, which the database lacks, was accepted; then it is counted. */
    takeSeal({ trail, seal, firstSeq, lastSeq, sealedAt }: Anchor): boolean {
      const loss = losses.find(
        ({ accepted }) => seal >= accepted.firstSeal && sealedAt <= accepted.sealedAt,
      );
      loss?.seals.add(seal, seal);
      loss?.events.add(firstSeq, lastSeq);
      return loss !== undefined || trail !== present;
    },
    /** Whether the loss of this event, which the ledger lacks, was accepted; then it is counted. To be asked after all seals. */
    takeEvent(seq: number): boolean {
      const loss = losses.find(
        ({ accepted, events }) =>
          seq >= accepted.firstSeq && seq <= Math.max(accepted.lastSeq, events.read()?.last ?? 0),
      );
      loss?.events.add(seq, seq);
      return loss !== undefined;
    },
    found: (): Loss[] =>
      losses
        .map(({ accepted: { acceptedAt, reason }, seals, events }) => ({
          ...{ acceptedAt, reason, seals: seals.read(), events: events.read() },
        }))
        .filter(({ seals, events }) => seals !== null || events !== null),
  };
}

function makeRange() {
  let range: Range | null = null;
  return {
    add(first: number, last: number): void {
      range = {
        first: Math.min(range?.first ?? first, first),
        last: Math.max(range?.last ?? last, last),
      };
    },
    read: () => range,
  };
}
