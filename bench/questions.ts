import type { Question } from './question.ts';
import { backlog } from './questions/backlog.ts';
import { delay } from './questions/delay.ts';
import { delivering } from './questions/delivering.ts';
import { lateness } from './questions/lateness.ts';
import { listing } from './questions/listing.ts';
import { memoryStart } from './questions/memory_start.ts';
import { sealing } from './questions/sealing.ts';
import { verifying } from './questions/verifying.ts';

/** In the order in which they are asked. */
export const QUESTIONS: readonly Question[] = [
  sealing,
  verifying,
  delivering,
  delay,
  backlog,
  lateness,
  listing,
  memoryStart,
];
