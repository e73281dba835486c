import { hash } from 'node:crypto';

// The Merkle tree of RFC 6962, section 2.1, and RFC 9162, section 2.1.3.

const LEAF = Buffer.from([0]);
const NODE = Buffer.from([1]);

/** SHA-256 of the parts, one after the other. */
export function sha256(...parts: readonly Uint8Array[]): Buffer {
  return hash('sha256', Buffer.concat(parts), 'buffer');
}

/** The leaf of a shipped message: of its UTF-8 bytes, with 0x00 before them. */
export function leafOf(message: string): Buffer {
  return sha256(LEAF, Buffer.from(message, 'utf8'));
}

/** The root by RFC 9162, section 2.1.3.2; null when the path can't be that of the leaf at `index` among `size` leaves. */
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
