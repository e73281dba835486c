import '../../src/graphql/environment.ts';

import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

import { constant, grafast, makeGrafastSchema } from 'postgraphile/grafast';
import { resolvePreset } from 'graphile-config';
import { expect, test } from 'vitest';

import { makeBoundedPlans } from '../../src/graphql/plans.ts';

const VARIABLES = 6;
const VARIANTS = 2 ** VARIABLES;

/** Of nearly 20,000 characters, with a plan for each set of the variables' values. */
function makeDocument(): string {
  const names = Array.from({ length: VARIABLES }, (_, i) => `v${i}`);
  const declared = names.map((name) => `$${name}: Boolean!`).join(' ');
  const included = names.map((name) => `${name}: n @include(if: $${name})`).join(' ');
  const filler = Array.from({ length: 200 }, (_, i) => `a${i}_${'x'.repeat(90)}: n`).join(' ');
  return `query (${declared}) { ${included} ${filler} }`;
}

test('a document with many variants of @include keeps no more plans than there is room for', async () => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const plans = new Set<WeakRef<object>>();
  const watch: GraphileConfig.Plugin = {
    name: 'WatchPlugin',
    grafast: {
      middleware: {
        establishOperationPlan(next) {
          const plan = next();
          plans.add(new WeakRef(plan));
          return plan;
        },
      },
    },
  };
  const schema = makeGrafastSchema({
    typeDefs: 'type Query { n: Int }',
    objects: { Query: { plans: { n: () => constant(1) } } },
  });
  const resolvedPreset = resolvePreset({ plugins: [makeBoundedPlans(), watch] });
  const source = makeDocument();
  for (let variant = 0; variant < VARIANTS; variant++) {
    const variableValues = Object.fromEntries(
      Array.from({ length: VARIABLES }, (_, i) => [`v${i}`, ((variant >> i) & 1) === 1]),
    );
    const result = await grafast({ schema, source, variableValues, resolvedPreset });
    expect(result).not.toHaveProperty('errors');
  }
  expect(plans.size).toBe(VARIANTS);
  // A reference holds its object until the end of the turn in which it was made.
  await new Promise((resolve) => setImmediate(resolve));
  collect();
  const kept = [...plans].filter((plan) => plan.deref() !== undefined);
  expect(kept.length).toBeLessThan(20);
});
