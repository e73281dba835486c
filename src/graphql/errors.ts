import './environment.ts';

import { GraphQLError, type GraphQLFormattedError } from 'postgraphile/graphql';
import { isSafeError, type SafeError } from 'postgraphile/grafast';

import {
  isProblemCode,
  ProblemError,
  problemOf,
  PROBLEMS,
  type Problem,
  type ProblemCode,
} from '../lib/errors.ts';
import type { Logger } from '../lib/log.ts';

/** An error with its code, for what GraphQL itself finds wrong with a document or its values. */
export function graphqlProblem(code: ProblemCode, error: GraphQLError | string): GraphQLError {
  if (typeof error === 'string') return new GraphQLError(error, { extensions: { code } });
  return new GraphQLError(error.message, {
    nodes: error.nodes ?? null,
    source: error.source ?? null,
    positions: error.positions ?? null,
    path: error.path ?? null,
    extensions: { code },
  });
}

/**
 * What the client gets of an error: a sentence, where it happened, and `extensions.code`, which is one of PROBLEMS.
 * An error that isn't known goes to the log, and the client is told no more than that.
 *
 * @param log knows the request's id
 */
export function formatError(error: unknown, log: Logger): GraphQLFormattedError {
  const where = error instanceof GraphQLError ? error : undefined;
  const { code, detail } = problemIn(error, log);
  return {
    message: detail,
    ...(where?.locations === undefined ? {} : { locations: where.locations }),
    ...(where?.path === undefined ? {} : { path: where.path }),
    extensions: { code },
  };
}

function problemIn(error: unknown, log: Logger): Pick<Problem, 'code' | 'detail'> {
  if (error instanceof GraphQLError) {
    const { code } = error.extensions;
    if (isProblemCode(code) && error.originalError === undefined)
      return { code, detail: error.message };
  }
  const cause = causeOf(error);
  const problem =
    cause instanceof Error && isSafeError(cause) ? ofGrafast(cause) : problemOf(cause);
  if (problem.code === 'internal_error') log.error({ err: cause }, 'a GraphQL field failed');
  else if (problem.status >= 500) log.warn({ err: cause }, 'a GraphQL field was turned away');
  return problem;
}

/** What was thrown, out of the GraphQL errors round it. */
function causeOf(error: unknown): unknown {
  let cause = error;
  while (cause instanceof GraphQLError && cause.originalError !== undefined)
    cause = cause.originalError;
  return cause;
}

/** Grafast writes these for clients: a timeout, which it marks with a symbol, or a cursor that it can't use. */
function ofGrafast(error: SafeError): Problem {
  const marks = Object.getOwnPropertySymbols(error.extensions ?? {});
  return marks.some(({ description }) => description === 'timeout')
    ? new ProblemError('timeout', `${PROBLEMS.timeout.title}.`).problem
    : new ProblemError('invalid_value', error.message).problem;
}
