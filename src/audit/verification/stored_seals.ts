import type pg from 'pg';
import type { Anchor } from './copy.ts';

/** A seal as the database has it; numbers as text, for they may have been made larger than any of JavaScript's. */
export type StoredSeal = Readonly<
  Record<'seal' | 'incarnation' | 'first' | 'last' | 'root' | 'head' | 'at', string>
>;

/** Whether an anchor says the same as the seal, time included. */
export function agree(seal: StoredSeal, anchor: Anchor): boolean {
  return (
    seal.head === anchor.head &&
    seal.root === anchor.root &&
    Number(seal.first) === anchor.firstSeq &&
    Number(seal.last) === anchor.lastSeq &&
    seal.at === anchor.sealedAt
  );
}

/** The number of the last seal; 0 when there is none. */
export async function lastSealOf(pool: pg.Pool): Promise<number> {
  const { rows } = await pool.query<{ last: string }>(
    'select coalesce(max(seal_no), 0) as last from audit.seals',
  );
  return Number(rows[0]?.last ?? 0);
}

/** The number of the last event that has one; 0 when there is none. */
export async function lastSeqOf(pool: pg.Pool): Promise<number> {
  const { rows } = await pool.query<{ last: string }>(
    'select coalesce(max(seq), 0) as last from audit.ledger',
  );
  return Number(rows[0]?.last ?? 0);
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
