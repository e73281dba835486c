import {
  coerceInputValue,
  getArgumentValues,
  getNamedType,
  GraphQLError,
  isInputType,
  isNonNullType,
  isObjectType,
  Kind,
  print,
  typeFromAST,
  valueFromAST,
  type ASTNode,
  type DocumentNode,
  type FieldNode,
  type GraphQLObjectType,
  type GraphQLSchema,
  type OperationDefinitionNode,
  type SelectionSetNode,
} from 'postgraphile/graphql';

import { ProblemError, type ProblemCode } from '../lib/errors.ts';
import { codeAt, namesTo } from './documents.ts';
import { graphqlProblem } from './errors.ts';
import { MAX_PAGE } from './schema/pages.ts';

/** Fields at the root, each of which is a transaction of its own. */
const MOST_ROOT_FIELDS = 20;
/** Fields in all, every use of a fragment counted, aliases too. */
const MOST_FIELDS = 500;
/** Rows that the pages of an operation can come to, one inside the other. */
const MOST_ROWS = 10_000;

/** Lists and input objects one inside the other, in a variable: several times what any input has. */
const DEEPEST = 10;
/** Columns to order by: each makes the statement longer. */
const MOST_ORDERS = 5;

type Values = Readonly<Record<string, unknown>>;

/**
 * The operation's variables, defaults filled in.
 *
 * @throws GraphQLError or ProblemError with the code that fits the first value that is wrong
 */
export function coerceVariables(
  schema: GraphQLSchema,
  document: DocumentNode,
  operation: OperationDefinitionNode,
  inputs: Values,
): Values {
  // No prototype: a variable may be called __proto__, and must be counted all the same.
  const coerced = Object.create(null) as Record<string, unknown>;
  for (const definition of operation.variableDefinitions ?? []) {
    const name = definition.variable.name.value;
    const type = typeFromAST(schema, definition.type);
    if (!isInputType(type)) continue;
    const given = Object.hasOwn(inputs, name);
    if (!given && definition.defaultValue !== undefined)
      coerced[name] = valueFromAST(definition.defaultValue, type);
    else if (given || isNonNullType(type)) {
      const value = given ? inputs[name] : null;
      const isUse = (node: ASTNode) => node.kind === Kind.VARIABLE && node.name.value === name;
      coerced[name] = coerceInputValue(value, type, (path, _value, error) => {
        const keys = path.filter((key) => typeof key === 'string');
        const names = [...namesTo(document, isUse), ...keys];
        const place = [`$${name}`, ...path].join('.');
        const sentence = `${place} (${print(definition.type)}): ${error.message}`;
        throw problemAt(definition, sentence, codeAt(names));
      });
      // Only now, when the value is no deeper than its type.
      requireStorable(coerced[name], name);
    }
  }
  return coerced;
}

/**
 * The variables that the operation uses, as text: the same for the same values, however they were sent.
 *
 * @throws ProblemError invalid_value when they are nested more deeply than any input is
 */
export function textOfVariables(operation: OperationDefinitionNode, inputs: Values): string {
  const names = (operation.variableDefinitions ?? []).map(({ variable }) => variable.name.value);
  const used = names.filter((name) => Object.hasOwn(inputs, name));
  return `{${used.map((name) => `${name}:${textOf(inputs[name])}`).join()}}`;
}

function textOf(value: unknown, depth = 0): string {
  if (depth > DEEPEST)
    throw new ProblemError('invalid_value', 'The variables are nested too deeply.');
  if (Array.isArray(value)) return `[${value.map((inner) => textOf(inner, depth + 1)).join()}]`;
  if (typeof value === 'object' && value !== null) {
    const fields = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
    const text = (name: string, inner: unknown) =>
      `${JSON.stringify(name)}:${textOf(inner, depth + 1)}`;
    return `{${fields.map(([name, inner]) => text(name, inner)).join()}}`;
  }
  // JSON has no text for Infinity, as which it reads 1e999.
  return typeof value === 'number' ? String(value) : JSON.stringify(value);
}

/** PostgreSQL stores no NUL, and half a surrogate pair would be stored as another character. */
function requireStorable(value: unknown, name: string): void {
  if (typeof value === 'string') {
    if (value.includes('\0') || !value.isWellFormed())
      throw new ProblemError('invalid_value', `$${name} has text with a NUL or half a character.`);
  } else if (typeof value === 'object' && value !== null) {
    for (const inner of Object.values(value)) requireStorable(inner, name);
  }
}

/**
 * Refuses an operation that could cost too much, before any of it is planned: too many fields, pages that are too large,
 * or too many rows by pages within pages. It stops at the first limit, so that it can't be made to cost much itself.
 *
 * @throws GraphQLError invalid_query, or invalid_value for `first`
 */
export function checkLimits(
  schema: GraphQLSchema,
  document: DocumentNode,
  operation: OperationDefinitionNode,
  variables: Values,
): void {
  const fragments = new Map(
    document.definitions
      .filter((definition) => definition.kind === Kind.FRAGMENT_DEFINITION)
      .map(({ name, selectionSet }) => [name.value, selectionSet]),
  );
  const root = schema.getRootType(operation.operation);
  if (!root) throw graphqlProblem('invalid_query', `There is no ${operation.operation}.`);

  let fields = 0;
  let rows = 0;
  let rootFields = 0;

  function enterField(node: FieldNode, parent: GraphQLObjectType, times: number, depth: number) {
    const definition = parent.getFields()[node.name.value];
    // __typename and the like.
    if (definition === undefined) return;
    let inner = times;
    if (definition.args.some(({ name }) => name === 'first')) {
      inner *= pageOf(argumentsOf(definition, node, variables), node);
      rows += inner;
      if (rows > MOST_ROWS)
        throw problemAt(node, `The pages come to more than ${MOST_ROWS} rows: lower first.`);
    }
    const type = getNamedType(definition.type);
    if (node.selectionSet && isObjectType(type)) enter(node.selectionSet, type, inner, depth + 1);
  }

  function enter(
    { selections }: SelectionSetNode,
    parent: GraphQLObjectType,
    times: number,
    depth: number,
  ) {
    for (const node of selections) {
      fields += 1;
      if (fields > MOST_FIELDS) throw problemAt(node, `Ask for ${MOST_FIELDS} fields at most.`);
      if (depth === 0) rootFields += 1;
      if (rootFields > MOST_ROOT_FIELDS)
        throw problemAt(node, `Ask for ${MOST_ROOT_FIELDS} fields at the root at most.`);
      if (node.kind === Kind.FIELD) {
        enterField(node, parent, times, depth);
        continue;
      }
      // No interfaces and no unions: a fragment's type is its place's.
      const inline = node.kind === Kind.INLINE_FRAGMENT;
      const set = inline ? node.selectionSet : fragments.get(node.name.value);
      if (set !== undefined) enter(set, parent, times, depth);
    }
  }

  enter(operation.selectionSet, root, 1, 0);
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
  if (Array.isArray(orderBy) && orderBy.length > MOST_ORDERS)
    throw problemAt(node, `orderBy may have ${MOST_ORDERS} values at most.`, 'invalid_value');
  if (typeof first !== 'number' || first < 0 || first > MAX_PAGE)
    throw problemAt(node, `first must be from 0 to ${MAX_PAGE}.`, 'invalid_value');
  return first;
}

function problemAt(node: ASTNode, sentence: string, code: ProblemCode = 'invalid_query') {
  return graphqlProblem(code, new GraphQLError(sentence, { nodes: node }));
}
