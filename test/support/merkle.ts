// The Merkle tree of RFC 6962, section 2.1, as it defines it: recursively. The database works level by level
// (migrations/fixtures/audit/seal/sealing.sql), so that neither can repeat a slip of the other's.
import { sha256 } from '../../src/audit/seals/merkle.ts';

const NODE = Buffer.from([1]);

/** The Merkle tree hash of leaves that are hashed already. */
export function merkleRoot(leaves: readonly Buffer[]): Buffer {
  const [first] = leaves;
  if (first === undefined) return sha256();
  if (leaves.length === 1) return first;
  const middle = leftSize(leaves.length);
  return sha256(NODE, merkleRoot(leaves.slice(0, middle)), merkleRoot(leaves.slice(middle)));
}

/**
 * The inclusion path of the leaf at `index`, from 0: the hashes that lead from it to the root.
 *
 * @throws RangeError when there is no such leaf
 */
export function merklePath(leaves: readonly Buffer[], index: number): Buffer[] {
  if (!(Number.isInteger(index) && index >= 0 && index < leaves.length))
    throw new RangeError(`There is no leaf ${index} among ${leaves.length}.`);
  if (leaves.length === 1) return [];
  const middle = leftSize(leaves.length);
  const left = leaves.slice(0, middle);
  const right = leaves.slice(middle);
  return index < middle
    ? [...merklePath(left, index), merkleRoot(right)]
    : [...merklePath(right, index - middle), merkleRoot(left)];
}

/** The largest power of two below `size`, which is 2 or more. */
function leftSize(size: number): number {
  return 2 ** Math.floor(Math.log2(size - 1));
}
