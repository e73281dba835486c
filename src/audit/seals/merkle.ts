import { createHash } from 'node:crypto';

// The Merkle tree of RFC 6962, section 2.1, and RFC 9162, section 2.1.3, as they define it: recursively. The database works
// level by level (migrations/fixtures/audit/seal/sealing.sql), so that neither can repeat a slip of the other's.

const LEAF = Buffer.from([0]);
const NODE = Buffer.from([1]);

/** SHA-256 of the parts, one behind the other. */
export function sha256(...parts: readonly Uint8Array[]): Buffer {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest();
}

/** The leaf of a shipped message: of its UTF-8 bytes, with 0x00 before them. */
export function leafOf(message: string): Buffer {
  return sha256(LEAF, Buffer.from(message, 'utf8'));
}

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

/**
 * The root that a leaf and its path lead to, by the steps of RFC 9162, section 2.1.3.2; null when the path can't be that of
 * the leaf at `index` in a tree of `size` leaves.
 */
export function rootByPath(
  leaf: Buffer,
  index: number,
  size: number,
  path: readonly Buffer[],
): Buffer | null {
  if (!(index >= 0 && index < size)) return null;
  let node = index;
  let last = size - 1;
  let root = leaf;
  for (const sibling of path) {
    if (last === 0) return null;
    if (node % 2 === 1 || node === last) {
      root = sha256(NODE, sibling, root);
      // A node without a neighbour goes up as it is, until it has one on its left.
      while (node % 2 === 0 && node !== 0) [node, last] = [half(node), half(last)];
    } else {
      root = sha256(NODE, root, sibling);
    }
    [node, last] = [half(node), half(last)];
  }
  return last === 0 ? root : null;
}

function half(n: number): number {
  return Math.floor(n / 2);
}

/** The largest power of two below `size`, which is 2 or more. */
function leftSize(size: number): number {
  return 2 ** Math.floor(Math.log2(size - 1));
}
