import type pg from 'pg';
import type { Anchor } from './copy.ts';

/** A seal as the database has it; numbers as text, for they may have been made larger than any of JavaScript's. */
export type StoredSeal = Readonly<
  Record<'seal' | 'incarnation' | 'first' | 'last' | 'root' | 'head' | 'at', string>
>;

/** Whether an anchor says the same as the seal, time included. */
export function matches(seal: StoredSeal, anchor: Anchor): boolean {
  return (
    seal.head === anchor.head &&
    seal.root === anchor.root &&
    Number(seal.first) === anchor.firstSeq &&
    Number(seal.last) === anchor.lastSeq &&
    seal.at === anchor.sealedAt
  );
}

/** The numbers of the last seal and of the last event that has one; 0 when there is none. */
export async function readEnd(pool: pg.Pool): Promise<{ seal: number; seq: number }> {
  const { rows } = await pool.query<{ seal: number; seq: number }>(
    `select coalesce((select max(seal_no) from audit.seals), 0)::float as seal,
       coalesce((select max(seq) from audit.ledger), 0)::float as seq`,
  );
  return rows[0] ?? { seal: 0, seq: 0 };
}

/** The seals that the anchors are of, by their numbers. */
export async function storedSeals(pool: pg.Pool, anchors: readonly Anchor[]) {
  const { rows } = await pool.query<StoredSeal>(
    `select seal_no as seal, incarnation, first_seq as first, last_seq as last,
       encode(root, 'hex') as root, encode(head, 'hex') as head,
       to_char(sealed_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as at
     from audit.seals
     where seal_no = any ($1::bigint[])`,
    [anchors.map(({ seal }) => seal)],
  );
  return new Map(rows.map((row) => [Number(row.seal), row]));
}
