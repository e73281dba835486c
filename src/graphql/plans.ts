import type {} from 'postgraphile';
import type { GraphQLSchema, OperationDefinitionNode } from 'postgraphile/graphql';

/** Bytes of all plans that are kept: a plan of an ordinary operation takes 0.2 MB, the largest that limits.ts allows 3 MB. */
const MAX_BYTES = 20_000_000;
/** Bytes of a plan, by measurement: for each of its steps, and for each character of its document. */
const STEP_BYTES = 4_000;
const CHARACTER_BYTES = 75;

/**
 * Makes grafast forget all plans when those made since the last time come to more than 20 MB. By itself it keeps the plans of 500
 * documents, of any size, and 50 of each: a document has a plan for each set of values of its variables in `@include` and `@skip`. The
 * next request of an operation plans it again, in its user's turn.
 */
export function makeBoundedPlans(): GraphileConfig.Plugin {
  let known = new WeakSet<object>();
  let bytes = 0;
  return {
    name: 'HalyardBoundedPlansPlugin',
    version: '0.0.0',
    grafast: {
      middleware: {
        establishOperationPlan(next, { schema, operation }) {
          const plan = next();
          if (known.has(plan)) return plan;
          bytes += sizeOf(plan, operation);
          if (bytes > MAX_BYTES) {
            forgetPlans(schema);
            known = new WeakSet();
            bytes = 0;
          }
          known.add(plan);
          return plan;
        },
      },
    },
  };
}

/** Bytes, about. grafast's types don't show the steps. */
function sizeOf(plan: object, { loc }: OperationDefinitionNode): number {
  const { stepCount } = (plan as { readonly stepTracker: { readonly stepCount: number } })
    .stepTracker;
  return STEP_BYTES * stepCount + CHARACTER_BYTES * (loc?.source.body.length ?? 0);
}

/** The cache is under a symbol of grafast's, which makes another one where there is none. */
function forgetPlans({ extensions }: GraphQLSchema): void {
  Object.assign(extensions, {
    grafast: Object.fromEntries(Object.entries(extensions.grafast ?? {})),
  });
}
