import { expect, test } from 'vitest';
import { leafOf } from '../../../src/audit/seals/merkle.ts';
import { parseProof, ProofFormatError, proofProblems } from '../../../src/audit/seals/proof.ts';
import type { Proof } from '../../../src/audit/seals/proof.ts';
import { headOf } from '../../../src/audit/seals/seal.ts';
import { merklePath, merkleRoot } from '../../support/merkle.ts';

const EVENT_ID = '55040ed5-57d5-81fe-b73c-25fec07aed94';
const OTHER_ID = '65040ed5-57d5-81fe-b73c-25fec07aed94';
const messageOf = (seq: number) => JSON.stringify({ eventType: 'a.b', eventId: EVENT_ID, seq });

/** The proof that the message of `seq` is the leaf at `index` of a seal of the events 11 to 17. */
function makeProof(index = 3, seq = 11 + index): Proof {
  const leaves = Array.from({ length: 7 }, (_, i) => leafOf(messageOf(i === index ? seq : 11 + i)));
  const root = merkleRoot(leaves).toString('hex');
  const seal = {
    trail: EVENT_ID,
    incarnation: OTHER_ID,
    seal: 2,
    firstSeq: 11,
    lastSeq: 17,
    root,
    previousHead: 'ab'.repeat(32),
  };
  return {
    ...{ version: 1, eventId: EVENT_ID, seq, message: messageOf(seq), leafIndex: index },
    leaf: leaves[index]?.toString('hex') ?? '',
    path: merklePath(leaves, index).map((node) => node.toString('hex')),
    seal: { ...seal, head: headOf(seal) },
  };
}

const problemsOf = (proof: Proof) => proofProblems(proof, proof.message ?? '');
const flip = (hash: string) => (hash.startsWith('0') ? '1' : '0') + hash.slice(1);

test('a proof as it was made holds, also read from its text', () => {
  for (let index = 0; index < 7; index++) {
    const proof = makeProof(index);
    expect(problemsOf(parseProof(JSON.stringify(proof)))).toEqual([]);
  }
});

test('a proof that was changed anywhere does not hold', () => {
  const proof = makeProof();
  const { seal, path } = proof;
  const numbers = (['seal', 'firstSeq', 'lastSeq'] as const).flatMap((name) =>
    [-1, 1, 2 ** 52].map((more) => ({ seal: { ...seal, [name]: seal[name] + more } })),
  );
  const hashes = (['root', 'previousHead', 'head'] as const).map((name) => ({
    seal: { ...seal, [name]: flip(seal[name]) },
  }));
  const changes: Partial<Proof>[] = [
    ...numbers,
    ...hashes,
    { eventId: OTHER_ID },
    { seal: { ...seal, trail: OTHER_ID } },
    { seal: { ...seal, incarnation: EVENT_ID } },
    { message: messageOf(14).replace('a.b', 'a.c') },
    { message: '' },
    { message: 'null' },
    { seq: 15 },
    { leaf: flip(proof.leaf) },
    { leafIndex: 2 },
    { leafIndex: 7 },
    { leafIndex: 2 ** 52 },
    { path: path.toReversed() },
    { path: path.slice(1) },
    { path: [...path, flip(path[0] ?? '')] },
    { path: [] },
  ];
  for (const change of changes)
    expect(problemsOf({ ...proof, ...change }), JSON.stringify(change)).not.toEqual([]);
});

test('a message at the place of another number is told, though all hashes fit', () => {
  expect(problemsOf(makeProof(3, 15))).toEqual([
    'The leaf is not at the place of its number in the seal.',
  ]);
});

test.for([
  ['no JSON', 'hello'],
  ['nothing', ''],
  ['another version', JSON.stringify({ ...makeProof(), version: 2 })],
  ['a hash in capitals', JSON.stringify({ ...makeProof(), leaf: 'AB'.repeat(32) })],
  ['a negative number', JSON.stringify({ ...makeProof(), leafIndex: -1 })],
  ['a path without end', JSON.stringify({ ...makeProof(), path: Array(65).fill('ab'.repeat(32)) })],
])('%s is no proof', ([, text = '']) => {
  expect(() => parseProof(text)).toThrow(ProofFormatError);
});
