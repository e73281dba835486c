import { z } from '../../lib/zod.ts';
import { sha256 } from './merkle.ts';

const HEAD = Buffer.from([2]);

export const hash = z.string().check(z.regex(/^[0-9a-f]{64}$/, 'must be 64 hexadecimal digits'));
export const count = z.int().check(z.nonnegative());
const id = z.guid();

/** A seal as audit.sealed records and proofs hold it. */
export const sealShape = z.object({
  seal: count,
  trail: id,
  incarnation: id,
  firstSeq: count,
  lastSeq: count,
  root: hash,
  previousHead: hash,
  head: hash,
});

export type Seal = z.infer<typeof sealShape>;

/** The head that follows from the rest of a seal, in hexadecimal: what `head` must be. */
export function headOf(seal: Omit<Seal, 'head'>): string {
  const numbers = Buffer.alloc(24);
  numbers.writeBigInt64BE(BigInt(seal.seal), 0);
  numbers.writeBigInt64BE(BigInt(seal.firstSeq), 8);
  numbers.writeBigInt64BE(BigInt(seal.lastSeq - seal.firstSeq + 1), 16);
  return sha256(
    HEAD,
    Buffer.from(seal.previousHead, 'hex'),
    bytesOf(seal.trail),
    bytesOf(seal.incarnation),
    numbers,
    Buffer.from(seal.root, 'hex'),
  ).toString('hex');
}

function bytesOf(uuid: string): Buffer {
  return Buffer.from(uuid.replaceAll('-', ''), 'hex');
}
