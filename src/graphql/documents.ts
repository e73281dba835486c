import { depthLimit } from '@graphile/depth-limit';
import {
  getOperationAST,
  GraphQLError,
  Kind,
  NoSchemaIntrospectionCustomRule,
  parse,
  Source,
  specifiedRules,
  validate,
  ValuesOfCorrectTypeRule,
  visit,
  type ASTNode,
  type DocumentNode,
  type FragmentSpreadNode,
  type GraphQLSchema,
  type InlineFragmentNode,
  type OperationDefinitionNode,
  type SelectionSetNode,
  type ValidationContext,
} from 'postgraphile/graphql';
import type { ProblemCode } from '../lib/errors.ts';
import { graphqlProblem } from './errors.ts';

/** Characters and tokens of a query: several times what the largest useful one has. */
const MAX_CHARACTERS = 20_000;
const MAX_TOKENS = 2_000;
const MAX_ERRORS = 10;
const MAX_CACHED = 500;
/** Characters of the queries that are cached: what is made of one takes some 75 bytes for each. */
const MAX_CACHED_CHARACTERS = 250_000;
const TOO_LONG = `A query may have ${MAX_CHARACTERS} characters at most.`;

type Parsed = { readonly document: DocumentNode } | { readonly errors: GraphQLError[] };

/**
 * Parses and validates queries, and keeps the latest 500 outcomes, fewer of long ones: a document that comes again is planned only once, too.
 *
 * @param production no introspection, and no hints at the names in the schema
 */
export function makeDocuments(
  schema: GraphQLSchema,
  production: boolean,
): (query: string) => Parsed {
  const rules = [
    ...specifiedRules.filter((rule) => rule !== ValuesOfCorrectTypeRule),
    valuesRule,
    depthLimit({
      maxDepth: 10,
      maxListDepth: 6,
      // What IDEs ask, where introspection is allowed at all.
      maxIntrospectionDepth: 20,
      maxDepthByFieldCoordinates: { '__Type.ofType': 10 },
      revealDetails: true,
    }),
    ...(production ? [NoSchemaIntrospectionCustomRule] : []),
  ];
  const cache = new Map<string, Parsed>();
  let characters = 0;

  function forget(query: string): void {
    if (cache.delete(query)) characters -= query.length;
  }

  function read(query: string): Parsed {
    if (query.length > MAX_CHARACTERS)
      return { errors: [graphqlProblem('invalid_query', TOO_LONG)] };
    try {
      const document = parse(new Source(query, 'query'), { maxTokens: MAX_TOKENS });
      const errors = validate(schema, document, rules, { maxErrors: MAX_ERRORS });
      if (errors.length === 0) return { document };
      return { errors: errors.map((error) => fromQueryError(error, production)) };
    } catch (error) {
      if (error instanceof GraphQLError) return { errors: [fromQueryError(error, production)] };
      throw error;
    }
  }

  return (query) => {
    const known = cache.get(query);
    const parsed = known ?? read(query);
    forget(query);
    cache.set(query, parsed);
    characters += query.length;
    // LRU: re-inserting moves an entry to the end, so the first key is the oldest.
    while (cache.size > MAX_CACHED || characters > MAX_CACHED_CHARACTERS)
      forget(cache.keys().next().value ?? '');
    return parsed;
  };
}

/** The operation to run. @throws GraphQLError invalid_query when the name says none, or none says which. */
export function operationIn(document: DocumentNode, name: string | null): OperationDefinitionNode {
  const operation = getOperationAST(document, name);
  if (operation === null || operation === undefined)
    throw graphqlProblem('invalid_query', 'Say in operationName which operation to run.');
  return operation;
}

/** A fragment's selection; undefined where the document has none of its name. */
export function setOf(
  selection: FragmentSpreadNode | InlineFragmentNode,
  { definitions }: DocumentNode,
): SelectionSetNode | undefined {
  if (selection.kind === Kind.INLINE_FRAGMENT) return selection.selectionSet;
  return definitions
    .filter((definition) => definition.kind === Kind.FRAGMENT_DEFINITION)
    .find(({ name }) => name.value === selection.name.value)?.selectionSet;
}

/** The code of a value that isn't allowed, by the names that lead to it: REST's for the same mistake. */
export function codeAt(names: readonly string[]): ProblemCode {
  if (names.includes('steps') || names.includes('changes')) return 'invalid_plan';
  if (names.includes('updates')) return 'invalid_updates';
  return names.at(-1) === 'scheduledAt' ? 'invalid_scheduled_at' : 'invalid_value';
}

/** Whether names lead to the condition of a list. A field that it doesn't have is a mistake of the query and not of a value. */
export function isCondition(names: readonly string[]): boolean {
  return names.at(-1) === 'condition';
}

/** The arguments and input fields round a node. */
export function namesTo(document: DocumentNode, wanted: (node: ASTNode) => boolean): string[] {
  let names: string[] = [];
  const open: string[] = [];
  visit(document, {
    enter(node) {
      if (node.kind === Kind.ARGUMENT || node.kind === Kind.OBJECT_FIELD)
        open.push(node.name.value);
      if (wanted(node) && names.length === 0) names = [...open];
    },
    leave(node) {
      if (node.kind === Kind.ARGUMENT || node.kind === Kind.OBJECT_FIELD) open.pop();
    },
  });
  return names;
}

function fromQueryError(error: GraphQLError, production: boolean): GraphQLError {
  if (error.extensions.code !== undefined && !production) return error;
  const code = (error.extensions.code ?? 'invalid_query') as ProblemCode;
  const coded = graphqlProblem(code, error);
  // Validation would disclose names that nearly match, as introspection discloses all.
  if (production) coded.message = coded.message.replace(/ ?Did you mean .*$/s, '');
  return coded;
}

/** GraphQL's own rule, with the code that the value's place gives it. */
function valuesRule(context: ValidationContext) {
  const coded = Object.create(context) as ValidationContext;
  coded.reportError = (error) => {
    const [wrong] = error.nodes ?? [];
    const names = namesTo(context.getDocument(), (node) => node === wrong);
    // GraphQL's rule names a field itself only where its type doesn't have it.
    const isUnknown = wrong?.kind === Kind.OBJECT_FIELD && isCondition(names.slice(0, -1));
    context.reportError(graphqlProblem(isUnknown ? 'invalid_query' : codeAt(names), error));
  };
  return ValuesOfCorrectTypeRule(coded);
}
