import { z } from '../../lib/zod.ts';
import { parseJson } from '../../lib/json.ts';
import { leafOf, rootByPath } from './merkle.ts';
import { count, hash, headOf, sealShape } from './seal.ts';

const proofShape = z.object({
  version: z.literal(1),
  eventId: z.guid(),
  seq: count,
  message: z.nullable(z.string()),
  leaf: hash,
  leafIndex: count,
  path: z.array(hash).check(z.maxLength(64)),
  seal: sealShape,
});

/** What audit.prove() gives: an event's message, and the way from it to its seal's head. */
export type Proof = z.infer<typeof proofShape>;

/** A proof as `audit prove` writes it and `audit verify-proof` reads it. */
export function proofText(proof: unknown): string {
  return `${JSON.stringify(proof, null, 2)}\n`;
}

/** The text is no proof. */
export class ProofFormatError extends Error {
  override readonly name = 'ProofFormatError';
}

/**
 * Reads the text of a proof.
 *
 * @throws ProofFormatError that says what is wrong with it
 */
export function parseProof(text: string): Proof {
  const value = parseJson(text);
  if (value === undefined)
    throw new ProofFormatError('This is not the JSON that audit prove prints.');
  const parsed = proofShape.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const where = issue === undefined || issue.path.length === 0 ? '' : ` at ${issue.path.join('.')}`;
  throw new ProofFormatError(`This is no proof${where}: ${issue?.message ?? 'unknown reason'}.`);
}

/**
 * What is wrong with a proof, a sentence each; none when the message is in the seal with this head.
 *
 * @param message the event's shipped text; the proof's own unless it was purged from there
 */
export function proofProblems(proof: Proof, message: string): string[] {
  const { seal } = proof;
  const problems: string[] = [];
  if (leafOf(message).toString('hex') !== proof.leaf)
    problems.push('The message does not hash to the leaf: it is not what was sealed.');
  if (!describesEvent(message, proof))
    problems.push('The message is not that of the event and the number that the proof is about.');
  if (proof.seq !== seal.firstSeq + proof.leafIndex)
    problems.push('The leaf is not at the place of its number in the seal.');
  const size = seal.lastSeq - seal.firstSeq + 1;
  const path = proof.path.map((node) => Buffer.from(node, 'hex'));
  const root = rootByPath(Buffer.from(proof.leaf, 'hex'), proof.leafIndex, size, path);
  if (root?.toString('hex') !== seal.root)
    problems.push('The path does not lead from the leaf to the root of the seal.');
  if (headOf(seal) !== seal.head) problems.push('The head is not that of what the seal says.');
  return problems;
}

function describesEvent(message: string, { eventId, seq }: Proof): boolean {
  const value = parseJson(message) as { eventId?: unknown; seq?: unknown } | null | undefined;
  return value?.eventId === eventId && value.seq === seq;
}
