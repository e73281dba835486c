import {
  getArgumentValues,
  getNamedType,
  GraphQLError,
  isObjectType,
  Kind,
  type DocumentNode,
  type FieldNode,
  type GraphQLObjectType,
  type GraphQLSchema,
  type OperationDefinitionNode,
  type SelectionNode,
  type SelectionSetNode,
} from 'postgraphile/graphql';
import { setOf } from './documents.ts';
import { graphqlProblem } from './errors.ts';
import { LIMITS } from '../http/schema_parts.ts';
import { MAX_PAGE } from './schema/pages.ts';
import { problemAt, type Values } from './variables.ts';

/** Fields at the root, each of which is a transaction of its own. */
const MAX_ROOT_FIELDS = 20;
/** Fields in all, every use of a fragment counted, aliases too. */
const MAX_FIELDS = 500;
/** Lists: each takes 2 to 3 ms to plan, as much as a hundred plain fields. */
const MAX_LISTS = 25;
/** Fields that are objects, which are joined where they are rows: 0.5 ms each. */
const MAX_OBJECTS = 100;
/** Rows that the pages of an operation can come to, one inside the other. */
const MAX_ROWS = 10_000;
/** Characters that the answer can come to, by the estimates below: 5 MB hold up the event loop for 0.1 s. */
const MAX_ANSWERED = 5_000_000;
/** Answers longer than this are large: no more than a few of them are made at once. */
const LARGE_ANSWER = 250_000;
/** Characters of a value, beside its name. */
const VALUE_LENGTH = 35;
/** Characters of a text that can be thousands long. */
const LONG_TEXT_LENGTH = 1_000;
/** Rows of one message of a subscription, at most. */
const NOTIFIED_ROWS = 500;
const LONG_TEXTS: ReadonlySet<string> = new Set([
  'auditProof',
  'cancelReason',
  'description',
  'errorMessage',
  'events',
  'metadata',
  'reason',
]);

/** Lists with a larger `first` than pages: their rows are short, and each is one statement. */
const LARGE_LISTS: ReadonlySet<string> = new Set([
  'flagChanges',
  'schedulesBetween',
  'upcomingChanges',
]);
/** Lists that are read whole, with the rows that they can come to: no `first` makes their answer shorter. */
const WHOLE_LISTS: Readonly<Record<string, number>> = {
  changesPerDay: 400,
  flagStateAt: MAX_ROWS,
  'PlanStep.changes': LIMITS.changes,
  'ChangeFlagsPayload.changes': LIMITS.changes,
  'DryRun.changes': LIMITS.changes,
  'DryRun.events': 5 * LIMITS.changes,
  'DryRun.conflicts': LIMITS.changes,
  // Few by far, and as many as fields at most; of a plan as many as it has changes.
  'Plan.conflicts': 20,
  'FeatureFlagSchedule.conflicts': 5,
};

/** Columns to order by: each makes the statement longer. */
const MAX_ORDERS = 5;

const TOO_MUCH = `The answer can have more than ${MAX_ANSWERED} characters: lower first.`;
const TOO_MANY_ROWS = `The pages come to more than ${MAX_ROWS} rows: lower first.`;
const TOO_MANY_ROOT_FIELDS = `Ask for ${MAX_ROOT_FIELDS} fields at the root at most.`;

/**
 * Refuses an operation that could cost too much, before any of it is planned: too many fields, pages that are too large,
 * or too many rows by pages within pages. It stops at the first limit, so that it can't be made to cost much itself.
 *
 * @returns whether the answer can be large
 * @throws GraphQLError invalid_query, or invalid_value for `first`
 */
export function checkLimits(
  schema: GraphQLSchema,
  document: DocumentNode,
  operation: OperationDefinitionNode,
  variables: Values,
): boolean {
  const root = schema.getRootType(operation.operation);
  if (!root) throw graphqlProblem('invalid_query', `There is no ${operation.operation}.`);
  const results = (operation.operation as string) === 'subscription' ? NOTIFIED_ROWS : 1;
  const counted = { fields: 0, rootFields: 0, lists: 0, objects: 0, rows: 0, answered: 0 };

  function add(
    node: SelectionNode,
    what: keyof typeof counted,
    n: number,
    limit: number,
    sentence: string,
  ) {
    counted[what] += n;
    if (counted[what] > limit) throw problemAt(node, sentence);
  }

  function enterField(node: FieldNode, parent: GraphQLObjectType, times: number, depth: number) {
    const definition = parent.getFields()[node.name.value];
    // __typename and the like.
    if (definition === undefined) return;
    const field = node.name.value;
    let inner = times * (WHOLE_LISTS[`${parent.name}.${field}`] ?? WHOLE_LISTS[field] ?? 1);
    const length = results * (node.selectionSet ? times : inner) * lengthOf(node);
    add(node, 'answered', length, MAX_ANSWERED, TOO_MUCH);
    if (definition.args.some(({ name }) => name === 'first')) {
      add(node, 'lists', 1, MAX_LISTS, `Ask for ${MAX_LISTS} lists at most.`);
      inner *= pageOf(argumentsOf(definition, node, variables), node);
      add(node, 'rows', inner, MAX_ROWS, TOO_MANY_ROWS);
    }
    const type = getNamedType(definition.type);
    if (!node.selectionSet || !isObjectType(type)) return;
    add(node, 'objects', 1, MAX_OBJECTS, `Ask for ${MAX_OBJECTS} objects at most.`);
    enter(node.selectionSet, type, inner, depth + 1);
  }

  function enter(
    { selections }: SelectionSetNode,
    parent: GraphQLObjectType,
    times: number,
    depth: number,
  ) {
    for (const node of selections) {
      add(node, 'fields', 1, MAX_FIELDS, `Ask for ${MAX_FIELDS} fields at most.`);
      if (depth === 0) add(node, 'rootFields', 1, MAX_ROOT_FIELDS, TOO_MANY_ROOT_FIELDS);
      if (node.kind === Kind.FIELD) {
        enterField(node, parent, times, depth);
        continue;
      }
      // No interfaces and no unions: a fragment's type is its place's.
      const set = setOf(node, document);
      if (set !== undefined) enter(set, parent, times, depth);
    }
  }

  enter(operation.selectionSet, root, 1, 0);
  return counted.answered > LARGE_ANSWER;
}

/** Characters of a field in the answer, about. */
function lengthOf({ name, alias }: FieldNode): number {
  const length = LONG_TEXTS.has(name.value) ? LONG_TEXT_LENGTH : VALUE_LENGTH;
  return length + (alias ?? name).value.length;
}

function argumentsOf(
  definition: Parameters<typeof getArgumentValues>[0],
  node: FieldNode,
  variables: Values,
): Values {
  try {
    return getArgumentValues(definition, node, variables);
  } catch (error) {
    if (error instanceof GraphQLError) throw graphqlProblem('invalid_value', error);
    throw error;
  }
}

function pageOf({ first, orderBy }: Values, node: FieldNode): number {
  if (Array.isArray(orderBy) && orderBy.length > MAX_ORDERS)
    throw problemAt(node, `orderBy may have ${MAX_ORDERS} values at most.`, 'invalid_value');
  const most = LARGE_LISTS.has(node.name.value) ? MAX_ROWS : MAX_PAGE;
  if (typeof first !== 'number' || first < 0 || first > most)
    throw problemAt(node, `first must be from 0 to ${most}.`, 'invalid_value');
  return first;
}
