import {
  Kind,
  type GraphQLError,
  type DocumentNode,
  type ExecutionResult,
  type FieldNode,
  type OperationDefinitionNode,
  type SelectionSetNode,
} from 'postgraphile/graphql';
import type { Denial } from '../audit/denials/recorder.ts';
import type { Role } from '../auth/claims.ts';
import { explainDenial, type Action } from '../auth/rights.ts';
import { isProblemCode, PROBLEMS, type ProblemCode } from '../lib/errors.ts';
import { setOf } from './documents.ts';
import { changed, thrownIn, type Result } from './errors.ts';
import { argumentsIn } from './variables.ts';

/** An operation that ran, and its caller's role. */
export interface Run {
  readonly document: DocumentNode;
  readonly operation: OperationDefinitionNode;
  readonly variables: Readonly<Record<string, unknown>>;
  readonly role: Role | null;
}

/** The result, in which denials of what the role isn't meant to do have become `forbidden`. */
export function explainDenials(result: ExecutionResult, run: Run): ExecutionResult {
  if (result.errors === undefined) return result;
  return { ...result, errors: result.errors.map((error) => explain(error, run)) };
}

function explain(error: GraphQLError, run: Run): GraphQLError {
  const cause = thrownIn(error);
  const explained = explainDenial(cause, run.role, actionAt(error.path?.[0], run));
  if (explained === cause) return error;
  return changed(error, { path: error.path ?? null, originalError: explained as Error });
}

/** The key of a field at the root, as in the answer; undefined for the only one that there is. */
type Key = string | number | undefined;

function actionAt(key: Key, { document, operation }: Run): Action {
  const field = fieldAt(key, document, operation.selectionSet);
  const name = field?.name.value ?? '';
  if ((operation.operation as string) === 'mutation') {
    if (name === 'createEnvironment') return 'create_environments';
    return PLAN_MUTATIONS.test(name) ? 'change_plans' : 'change_flags';
  }
  if (/^(audit|trail)/.test(name)) return 'read_trail';
  return field !== undefined && readsPlans(field, document) ? 'read_plans' : 'read_flags';
}

const PLAN_MUTATIONS = /Plan$|^(changeFlags|revert|dryRun)/;

/** Fields whose columns and functions viewers have no right to, which are read in the statement of the field at the root. */
const OF_PLANS: ReadonlySet<string> = new Set([
  ...['plan', 'plans', 'plansChanged', 'conflicts', 'stoppedBy', 'stopReason', 'lastResume'],
]);

/** Whether a field, or one in it, is of plans, or says who stopped an environment. */
function readsPlans({ name, selectionSet }: FieldNode, document: DocumentNode): boolean {
  if (OF_PLANS.has(name.value)) return true;
  const within = (set: SelectionSetNode | undefined): boolean =>
    set?.selections.some((selection) =>
      selection.kind === Kind.FIELD
        ? readsPlans(selection, document)
        : within(setOf(selection, document)),
    ) ?? false;
  return within(selectionSet);
}

/** The field with that key, or alias, also in fragments. */
function fieldAt(
  key: Key,
  document: DocumentNode,
  { selections }: SelectionSetNode,
): FieldNode | undefined {
  for (const selection of selections) {
    if (selection.kind === Kind.FIELD) {
      const { alias, name } = selection;
      if (key === undefined || key === (alias ?? name).value) return selection;
      continue;
    }
    const set = setOf(selection, document);
    const found = set && fieldAt(key, document, set);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** The denials (403) in an answer, each once: the operation and its field at the root, and the flag that its arguments name. */
export function deniedIn(result: Result, run: Run): DeniedField[] {
  const denied = (result.errors ?? []).flatMap(({ path, extensions }) => {
    const code: unknown = extensions?.code;
    const isDenied = isProblemCode(code) && PROBLEMS[code].status === 403;
    return isDenied ? [deniedField(path?.[0], code, run)] : [];
  });
  return [...new Map(denied.map((each) => [JSON.stringify(each), each])).values()];
}

type DeniedField = Pick<Denial, 'operation' | 'code' | 'flagKey' | 'environment'>;

function deniedField(key: Key, code: ProblemCode, run: Run): DeniedField {
  const { document, operation, variables } = run;
  const field = fieldAt(key, document, operation.selectionSet);
  const given = field && argumentsIn(field, variables);
  // createEnvironment's name is that of no environment yet.
  const isNamed = /^(stop|resume)Environment$/.test(field?.name.value ?? '');
  return {
    operation: `${operation.operation} ${field?.name.value ?? ''}`.trim(),
    code,
    flagKey: textIn(given, 'flagKey'),
    environment: textIn(given, isNamed ? 'name' : 'environment'),
  };
}

/** An argument's text, also of an input object such as `{ input: { featureFlag: { flagKey } } }`. */
function textIn(value: unknown, name: string, depth = 3): string | undefined {
  if (typeof value !== 'object' || value === null || depth === 0) return undefined;
  const own = (value as Record<string, unknown>)[name];
  if (typeof own === 'string') return own;
  return Object.values(value)
    .map((inner) => textIn(inner, name, depth - 1))
    .find((text) => text !== undefined);
}
