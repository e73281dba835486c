import type { Benchmark } from './benchmark.ts';
import { backlog } from './benchmarks/backlog.ts';
import { bulk } from './benchmarks/bulk.ts';
import { costs } from './benchmarks/costs.ts';
import { createGraphql } from './benchmarks/create_graphql.ts';
import { createRest } from './benchmarks/create_rest.ts';
import { delay } from './benchmarks/delay.ts';
import { delivering } from './benchmarks/delivering.ts';
import { dueAtOnce } from './benchmarks/due_at_once.ts';
import { lateness } from './benchmarks/lateness.ts';
import { listing } from './benchmarks/listing.ts';
import { memoryStart } from './benchmarks/memory_start.ts';
import { pipeline } from './benchmarks/pipeline.ts';
import { plans } from './benchmarks/plans.ts';
import { scaleOut } from './benchmarks/scale_out.ts';
import { sealing } from './benchmarks/sealing.ts';
import { states } from './benchmarks/states.ts';
import { subscriptions } from './benchmarks/subscriptions.ts';
import { verifying } from './benchmarks/verifying.ts';

/** In the order in which they run. */
export const BENCHMARKS: readonly Benchmark[] = [
  createRest,
  createGraphql,
  pipeline,
  costs,
  dueAtOnce,
  plans,
  lateness,
  bulk,
  listing,
  states,
  sealing,
  delivering,
  delay,
  backlog,
  verifying,
  subscriptions,
  memoryStart,
  scaleOut,
];
