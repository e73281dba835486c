import type { Question } from './question.ts';
import { backlog } from './questions/backlog.ts';
import { bulk } from './questions/bulk.ts';
import { costs } from './questions/costs.ts';
import { createGraphql } from './questions/create_graphql.ts';
import { createRest } from './questions/create_rest.ts';
import { delay } from './questions/delay.ts';
import { delivering } from './questions/delivering.ts';
import { dueAtOnce } from './questions/due_at_once.ts';
import { lateness } from './questions/lateness.ts';
import { listing } from './questions/listing.ts';
import { memoryStart } from './questions/memory_start.ts';
import { pipeline } from './questions/pipeline.ts';
import { scaleOut } from './questions/scale_out.ts';
import { sealing } from './questions/sealing.ts';
import { subscriptions } from './questions/subscriptions.ts';
import { verifying } from './questions/verifying.ts';

/** In the order in which they are asked. */
export const QUESTIONS: readonly Question[] = [
  createRest,
  createGraphql,
  pipeline,
  costs,
  dueAtOnce,
  lateness,
  bulk,
  listing,
  sealing,
  delivering,
  delay,
  backlog,
  verifying,
  subscriptions,
  memoryStart,
  scaleOut,
];
