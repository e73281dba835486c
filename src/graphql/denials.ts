import {
  GraphQLError,
  Kind,
  type DocumentNode,
  type ExecutionResult,
  type OperationDefinitionNode,
  type SelectionSetNode,
} from 'postgraphile/graphql';

import type { Role } from '../auth/claims.ts';
import { explainDenial, type Action } from '../auth/rights.ts';

/** What was run, and for whom. */
interface Operation {
  readonly document: DocumentNode;
  readonly operation: OperationDefinitionNode;
  readonly role: Role | null;
}

/** The result, in which denials of what the role isn't meant to do have become `forbidden`. */
export function explainDenials(result: ExecutionResult, run: Operation): ExecutionResult {
  if (result.errors === undefined) return result;
  return { ...result, errors: result.errors.map((error) => explain(error, run)) };
}

function explain(error: GraphQLError, run: Operation): GraphQLError {
  let cause: unknown = error;
  while (cause instanceof GraphQLError && cause.originalError !== undefined)
    cause = cause.originalError;
  const explained = explainDenial(cause, run.role, actionAt(error.path?.[0], run));
  if (explained === cause) return error;
  return new GraphQLError(error.message, {
    nodes: error.nodes ?? null,
    source: error.source ?? null,
    positions: error.positions ?? null,
    path: error.path ?? null,
    originalError: explained as Error,
  });
}

/** @param key of a field at the root, as in the answer; undefined for the only one there is */
function actionAt(key: string | number | undefined, { document, operation }: Operation): Action {
  if ((operation.operation as string) === 'mutation') return 'change_flags';
  const field = fieldAt(key, document, operation.selectionSet);
  return field?.startsWith('auditEvent') === true ? 'read_trail' : 'read_flags';
}

/** The name of the field with that key, or alias, also in fragments. */
function fieldAt(
  key: string | number | undefined,
  document: DocumentNode,
  { selections }: SelectionSetNode,
): string | undefined {
  for (const selection of selections) {
    if (selection.kind === Kind.FIELD) {
      const { alias, name } = selection;
      if (key === undefined || key === (alias ?? name).value) return name.value;
      continue;
    }
    const fragment =
      selection.kind === Kind.INLINE_FRAGMENT
        ? selection
        : document.definitions
            .filter((definition) => definition.kind === Kind.FRAGMENT_DEFINITION)
            .find(({ name }) => name.value === selection.name.value);
    if (fragment === undefined) continue;
    const found = fieldAt(key, document, fragment.selectionSet);
    if (found !== undefined) return found;
  }
  return undefined;
}
