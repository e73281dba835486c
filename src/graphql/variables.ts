import {
  coerceInputValue,
  GraphQLError,
  isInputType,
  isNonNullType,
  Kind,
  print,
  typeFromAST,
  valueFromAST,
  valueFromASTUntyped,
  type ASTNode,
  type DocumentNode,
  type FieldNode,
  type GraphQLSchema,
  type OperationDefinitionNode,
} from 'postgraphile/graphql';
import { ProblemError, type ProblemCode } from '../lib/errors.ts';
import { codeAt, isCondition, namesTo } from './documents.ts';
import { graphqlProblem } from './errors.ts';

/** Lists and input objects one inside the other, in a variable: several times what any input has. */
const MAX_DEPTH = 10;

export type Values = Readonly<Record<string, unknown>>;

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
      coerced[name] = coerceInputValue(value, type, (path, wrong: unknown, error) => {
        const keys = path.filter((key) => typeof key === 'string');
        const names = [...namesTo(document, isUse), ...keys];
        const place = [`$${name}`, ...path].join('.');
        const sentence = `${place} (${print(definition.type)}): ${error.message}`;
        // Where the condition is an object, only a field of it can be wrong.
        const isUnknown = isCondition(names) && typeof wrong === 'object' && wrong !== null;
        throw problemAt(definition, sentence, isUnknown ? 'invalid_query' : codeAt(names));
      });
      // Only now, when the value is no deeper than its type.
      requireStorable(coerced[name], name);
    }
  }
  return coerced;
}

/** A field's arguments as they are written, with the values of variables in them. */
export function argumentsIn({ arguments: given = [] }: FieldNode, variables: Values): Values {
  const values = given.map(({ name, value }) => [
    name.value,
    valueFromASTUntyped(value, variables),
  ]);
  return Object.fromEntries(values) as Values;
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
  if (depth > MAX_DEPTH)
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

/** An error with its code, at its place in the document. */
export function problemAt(node: ASTNode, sentence: string, code: ProblemCode = 'invalid_query') {
  return graphqlProblem(code, new GraphQLError(sentence, { nodes: node }));
}
