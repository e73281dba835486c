import { describe, expect, test } from 'vitest';
import { leafOf, rootByPath, sha256 } from '../../../src/audit/seals/merkle.ts';
import { headOf } from '../../../src/audit/seals/seal.ts';
import { merklePath, merkleRoot } from '../../support/merkle.ts';

/** The eight leaves that Certificate Transparency's implementations are tested with. */
const INPUTS = [
  '',
  '00',
  '10',
  '2021',
  '3031',
  '40414243',
  '5051525354555657',
  '606162636465666768696a6b6c6d6e6f',
].map((hex) => sha256(Buffer.from([0]), Buffer.from(hex, 'hex')));

const hex = (hash: Buffer | null | undefined) => hash?.toString('hex');

describe('the tree of RFC 6962', () => {
  test.for([
    [0, 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'],
    [1, '6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d'],
    [2, 'fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125'],
    [3, 'aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77'],
    [8, '5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328'],
  ] as const)('has the known root of %s leaves', ([size, root]) => {
    expect(hex(merkleRoot(INPUTS.slice(0, size)))).toBe(root);
  });

  test('has the known path of the first of eight leaves', () => {
    expect(merklePath(INPUTS, 0).map(hex)).toEqual([
      '96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7',
      '5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e',
      '6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4',
    ]);
  });

  test('a leaf is the hash of 0x00 and the UTF-8 bytes of the message', () => {
    expect(hex(leafOf('é'))).toBe(hex(sha256(Buffer.from([0, 0xc3, 0xa9]))));
  });
});

describe('a path', () => {
  const leaves = Array.from({ length: 40 }, (_, i) => leafOf(String(i)));
  const all = leaves.flatMap((_, last) =>
    leaves.slice(0, last + 1).map((leaf, index) => ({ leaf, index, size: last + 1 })),
  );

  test('leads from every leaf of every tree to its root', () => {
    for (const { leaf, index, size } of all) {
      const tree = leaves.slice(0, size);
      const root = rootByPath(leaf, index, size, merklePath(tree, index));
      expect(hex(root), `${index} of ${size}`).toBe(hex(merkleRoot(tree)));
    }
  });

  test('leads to the root from no other place, with no other leaf, and not when it is longer or shorter', () => {
    for (const { leaf, index, size } of all.filter((one) => one.size === 13)) {
      const tree = leaves.slice(0, size);
      const root = hex(merkleRoot(tree));
      const path = merklePath(tree, index);
      const wrong = [
        rootByPath(leafOf('other'), index, size, path),
        rootByPath(leaf, (index + 1) % size, size, path),
        rootByPath(leaf, index, size, path.slice(1)),
        rootByPath(leaf, index, size, path.slice(0, -1)),
        rootByPath(leaf, index, size, [...path, leaf]),
        rootByPath(leaf, size, size, path),
        rootByPath(leaf, -1, size, path),
      ];
      for (const found of wrong) expect(hex(found)).not.toBe(root);
      // A path that is too long leads nowhere, whatever it hashes to.
      expect(rootByPath(leaf, index, size, [...path, leaf])).toBeNull();
    }
  });

  test('of a leaf that is not there is refused', () => {
    expect(() => merklePath(INPUTS, 8)).toThrow(RangeError);
    expect(() => merklePath([], 0)).toThrow(RangeError);
  });
});

test('a head is the hash of 0x02, the head before, trail, incarnation, the numbers and the root', () => {
  const previousHead = 'ab'.repeat(32);
  const root = 'cd'.repeat(32);
  const trail = '0123ab45-6789-4abc-8def-0123456789ab';
  const incarnation = 'fedcba98-7654-4321-8fed-cba987654321';
  const ids = `${trail}${incarnation}`.replaceAll('-', '');
  const numbers = ['0000000000000007', '00000000000003e9', '0000000000000003'].join('');
  const expected = sha256(Buffer.from(`02${previousHead}${ids}${numbers}${root}`, 'hex'));
  expect(
    headOf({ trail, incarnation, seal: 7, firstSeq: 1001, lastSeq: 1003, root, previousHead }),
  ).toBe(hex(expected));
});
