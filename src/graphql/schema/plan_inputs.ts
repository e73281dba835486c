import type {} from 'postgraphile';
import { toColumns, type Updates } from './flag_updates.ts';

const NAME = 'HalyardPlanInputsPlugin';

interface Change {
  readonly flagKey: string;
  readonly environment: string;
  readonly updates: Updates;
  readonly expects?: Updates | null;
  readonly onConflict?: string | null;
}

/** A change in the shape of the database's functions; what is left out, or null, isn't in it. */
function requestedChange(build: GraphileBuild.Build, given: Change) {
  const { flagKey, environment, updates, expects, onConflict } = given;
  return {
    ...{ flag_key: flagKey, environment, updates: toColumns(build, updates, 'invalid_plan') },
    ...(expects && { expects: toColumns(build, expects, 'invalid_plan') }),
    ...(typeof onConflict === 'string' && { on_conflict: onConflict }),
  };
}

/** The arguments that are jsonb in the database, each with its type here. */
const TYPED: Readonly<Record<string, readonly [field: string, type: string]>> = {
  CreatePlanInput: ['steps', 'PlanStepInput'],
  EditPlanInput: ['steps', 'PlanStepInput'],
  DryRunPlanInput: ['steps', 'PlanStepInput'],
  DryRunEditInput: ['steps', 'PlanStepInput'],
  ChangeFlagsInput: ['changes', 'PlanChangeInput'],
};

function changeFields(build: GraphileBuild.Build) {
  const { GraphQLNonNull, GraphQLString } = build.graphql;
  const required = new GraphQLNonNull(GraphQLString);
  const updates = build.getInputTypeByName('FlagUpdatesInput');
  return {
    flagKey: { type: required, description: 'The key of the flag to change.' },
    environment: { type: required, description: 'The flag’s environment.' },
    updates: {
      type: new GraphQLNonNull(updates),
      description: 'What to change: at least one field.',
    },
    expects: {
      type: updates,
      description:
        'What you expect to find in the flag then. Only the fields that you name are compared.',
    },
    onConflict: {
      type: GraphQLString,
      description:
        'What happens where something else is found: overwrite sets all fields, keep leaves the fields that differ, suspend leaves all of the plan for an admin to decide. overwrite unless given; keep and suspend need `expects`.',
    },
  };
}

/** PlanStepInput and PlanChangeInput, where the functions have jsonb. */
export const planInputs: GraphileConfig.Plugin = {
  name: NAME,
  version: '0.0.0',
  schema: {
    hooks: {
      init(_, build) {
        const { GraphQLList, GraphQLNonNull } = build.graphql;
        const toChange = (given: object) => requestedChange(build, given as Change);
        const change = () => ({
          description: 'A change of a flag.',
          fields: () => changeFields(build),
          extensions: { grafast: { baked: toChange } },
        });
        const step = () => ({
          description: 'A step of a plan: changes that are made at one instant, all or nothing.',
          fields: () => ({
            changes: {
              type: new GraphQLNonNull(
                new GraphQLList(new GraphQLNonNull(build.getInputTypeByName('PlanChangeInput'))),
              ),
              description: 'The changes, 1 to 200, each flag once.',
            },
          }),
          extensions: {
            grafast: {
              baked: ({ changes }: { changes?: Change[] }) => ({ changes: changes?.map(toChange) }),
            },
          },
        });
        build.registerInputObjectType('PlanChangeInput', {}, change, NAME);
        build.registerInputObjectType('PlanStepInput', {}, step, NAME);
        return _;
      },
      GraphQLInputObjectType_fields_field(field, build, { scope, Self }) {
        const [name, type = ''] = TYPED[Self.name] ?? [];
        if (name !== scope.fieldName) return field;
        const { GraphQLList, GraphQLNonNull } = build.graphql;
        const element = new GraphQLNonNull(build.getInputTypeByName(type));
        return Object.assign(field, { type: new GraphQLList(element) });
      },
    },
  },
};
