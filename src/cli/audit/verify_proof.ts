import { messagesOf, readMessage } from '../../audit/verification/copy.ts';
import {
  parseProof,
  proofProblems,
  type Proof,
  type ProofFormatError,
} from '../../audit/seals/proof.ts';
import { linesOf, textOf } from './input.ts';
import { exitWith, FOUND_PROBLEMS, NotCheckedError, UsageError } from './exit_with.ts';

/** Files beside the proof. */
export interface VerifyProofArguments {
  readonly message?: string;
  readonly anchors?: string;
}

/**
 * `halyard audit verify-proof FILE`: checks a proof by itself; it needs no database and no settings. Exit status 0 when it
 * holds, 1 when not, 2 for bad arguments, 3 when it could not be checked.
 */
export function run(file: string, values: VerifyProofArguments): Promise<void> {
  return exitWith(async () => {
    if ([file, values.message, values.anchors].filter((name) => name === '-').length > 1)
      throw new UsageError('Only one of the files can be -, standard input.');
    const proof = await readProof(file);
    const message = await messageFor(proof, values.message);
    const problems = proofProblems(proof, message);
    if (problems.length === 0 && values.anchors !== undefined)
      problems.push(...(await anchorProblems(proof, values.anchors)));
    process.stdout.write(
      problems.length === 0
        ? holds(proof, message, values.anchors)
        : `The proof does not hold:\n${problems.map((problem) => `  ${problem}\n`).join('')}`,
    );
    return problems.length === 0 ? 0 : FOUND_PROBLEMS;
  });
}

async function readProof(file: string): Promise<Proof> {
  const text = await textOf(file);
  try {
    return parseProof(text);
  } catch (error) {
    throw new NotCheckedError(`${file}: ${(error as ProofFormatError).message}`, { cause: error });
  }
}

/** The proof's own message, or, for an event that was purged, the copy's line with its number. */
async function messageFor(proof: Proof, file: string | undefined): Promise<string> {
  if (file !== undefined) {
    for await (const message of messagesIn(file)) if (isAbout(message, proof)) return message;
    throw new NotCheckedError(`${file} has no message of event ${proof.eventId}.`);
  }
  if (proof.message !== null) return proof.message;
  throw new NotCheckedError(
    "The event was purged and its text with it: give --message a file with the copy's line of it.",
  );
}

function isAbout(message: string, { eventId, seq }: Proof): boolean {
  const found = readMessage(message);
  return found !== null && 'leaf' in found && found.seq === seq && message.includes(eventId);
}

async function anchorProblems({ seal }: Proof, file: string): Promise<string[]> {
  const heads = new Set<string>();
  for await (const message of messagesIn(file)) {
    const found = readMessage(message);
    if (found === null || 'leaf' in found) continue;
    if (found.seal === seal.seal && found.incarnation === seal.incarnation) heads.add(found.head);
  }
  if (heads.size === 0)
    throw new NotCheckedError(
      `${file} has no audit.sealed record of seal ${seal.seal}: look for it in a later part of the copy.`,
    );
  if (heads.size > 1)
    return [
      `The copy has several heads of seal ${seal.seal}: there were two trails, or one was rewritten.`,
    ];
  return heads.has(seal.head) ? [] : [`The copy's seal ${seal.seal} has another head.`];
}

async function* messagesIn(file: string): AsyncGenerator<string, void, undefined> {
  for await (const line of linesOf(file)) yield* messagesOf(line);
}

function holds({ seq, seal }: Proof, message: string, anchors: string | undefined): string {
  const outside =
    anchors === undefined
      ? `It proves something only if the copy outside has the same head: look there for the audit.sealed record of seal ${seal.seal} with\n  ${seal.head}`
      : `The copy's audit.sealed record of seal ${seal.seal} has the same head.`;
  return `The proof holds: event ${seq} is in seal ${seal.seal} (events ${seal.firstSeq} to ${seal.lastSeq}).\n  ${message}\n${outside}\n`;
}
