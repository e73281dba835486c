import './environment.ts';
import {
  GraphQLError,
  type GraphQLErrorOptions,
  type ExecutionResult,
  type FormattedExecutionResult,
  type GraphQLFormattedError,
} from 'postgraphile/graphql';
import { isSafeError, type SafeError } from 'postgraphile/grafast';
import { isProblemCode, ProblemError, problemOf, PROBLEMS } from '../lib/errors.ts';
import type { Problem, ProblemCode } from '../lib/errors.ts';
import type { Logger } from '../lib/log.ts';
import { turnedAwayLevel } from '../http/problems.ts';

/** What the client gets. */
export type Result = FormattedExecutionResult;

/** The document has errors: one for each. */
export class InvalidQuery extends Error {
  readonly errors: readonly GraphQLError[];

  constructor(errors: readonly GraphQLError[]) {
    super('The query is not valid.');
    this.errors = errors;
  }
}

/** A result with its errors as clients get them; unknown errors go to the log. */
export function format({ data, errors }: ExecutionResult, log: Logger): Result {
  return {
    ...(errors === undefined ? {} : { errors: errors.map((error) => formatError(error, log)) }),
    ...(data === undefined ? {} : { data }),
  };
}

/** Nothing ran: errors and no data. */
export function failure(error: unknown, log: Logger): Result {
  const errors = error instanceof InvalidQuery ? error.errors : [error];
  return { errors: errors.map((each) => formatError(each, log)) };
}

/** An error with its code, for what GraphQL itself finds wrong with a document or its values. */
export function graphqlProblem(code: ProblemCode, error: GraphQLError | string): GraphQLError {
  return typeof error === 'string'
    ? new GraphQLError(error, { extensions: { code } })
    : changed(error, { extensions: { code } });
}

/** A copy of an error, at the same place in the document, with other properties. */
export function changed(error: GraphQLError, properties: GraphQLErrorOptions): GraphQLError {
  const { message, nodes, source, positions } = error;
  const place = { nodes: nodes ?? null, source: source ?? null, positions: positions ?? null };
  return new GraphQLError(message, { ...place, ...properties });
}

/** The error that was thrown, without the GraphQL errors round it. */
export function thrownIn(error: unknown): unknown {
  let cause = error;
  while (cause instanceof GraphQLError && cause.originalError !== undefined)
    cause = cause.originalError;
  return cause;
}

/**
 * What the client gets of an error: a sentence, where it happened, and `extensions.code`, which is one of PROBLEMS. Of a change that
 * was made against another revision, `extensions.current` is the row's; of one that found other values than it expects,
 * `extensions.conflicts` are these. An error that isn't known goes to the log, and the client gets no more than its code.
 */
function formatError(error: unknown, log: Logger): GraphQLFormattedError {
  const { code, detail, current, conflicts } = problemIn(error, log);
  const where = error instanceof GraphQLError ? error.toJSON() : {};
  return {
    ...where,
    message: detail,
    extensions: { code, ...(current && { current }), ...(conflicts && { conflicts }) },
  };
}

function problemIn(
  error: unknown,
  log: Logger,
): Pick<Problem, 'code' | 'detail' | 'current' | 'conflicts'> {
  if (error instanceof GraphQLError) {
    const { code } = error.extensions;
    if (isProblemCode(code) && error.originalError === undefined)
      return { code, detail: error.message };
  }
  const cause = thrownIn(error);
  const problem =
    cause instanceof Error && isSafeError(cause) ? fromGrafastError(cause) : problemOf(cause);
  if (problem.code === 'internal_error') log.error({ err: cause }, 'a GraphQL field failed');
  else if (problem.status >= 500)
    log[turnedAwayLevel(cause)]({ err: cause }, 'a GraphQL field was turned away');
  return problem;
}

/** Grafast writes these for clients: a timeout, which it marks with a symbol, or a cursor that it can't use. */
function fromGrafastError(error: SafeError): Problem {
  const marks = Object.getOwnPropertySymbols(error.extensions ?? {});
  return marks.some(({ description }) => description === 'timeout')
    ? new ProblemError('timeout', `${PROBLEMS.timeout.title}.`).problem
    : new ProblemError('invalid_value', error.message).problem;
}
