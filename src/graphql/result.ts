import './environment.ts';

import type { ExecutionResult, FormattedExecutionResult, GraphQLError } from 'postgraphile/graphql';

import type { Logger } from '../lib/log.ts';
import { formatError } from './errors.ts';

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

/** What ran, with its errors as clients get them; those that aren't known go to the log. */
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
