import type { TadaDocumentNode } from 'gql.tada';
import { learnHorizon } from './horizon.ts';
import { sessionEnded } from './session.ts';

/** What the server answers to a request that it refuses, or that does not reach it. */
export class ApiError extends Error {
  override readonly name = 'ApiError';
  /** A code of docs/errors.md, `offline` where no answer came, `internal_error` where it was none of the API's. */
  readonly code: string;
  readonly status: number;
  /** The problem's other members, such as `errors`. */
  readonly details: Readonly<Record<string, unknown>>;

  constructor(
    message: string,
    code: string,
    status: number,
    details: Readonly<Record<string, unknown>> = {},
  ) {
    super(message);
    this.code = code;
    this.status = status;
    this.details = details;
  }
}

/** What was thrown, as an error of the API. */
export const errorOf = (failure: unknown): ApiError =>
  failure instanceof ApiError ? failure : new ApiError(String(failure), 'internal_error', 0);

const HEADERS = { 'Content-Type': 'application/json', 'X-Halyard-Console': '1' } as const;

/**
 * Sends one request as the session's person. The cookie goes with it, and the header that a form of another site can't send.
 *
 * @throws ApiError for each refusal; where the session has ended the page goes to sign in as well
 */
export async function send(
  method: string,
  path: string,
  body?: unknown,
  signal?: AbortSignal,
  accept = '*/*',
): Promise<Response> {
  let answer: Response;
  try {
    answer = await fetch(path, {
      ...{ method, headers: { ...HEADERS, Accept: accept }, credentials: 'same-origin' },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      ...(signal === undefined ? {} : { signal }),
    });
  } catch (error) {
    if (signal?.aborted === true) throw error;
    throw new ApiError(
      'The server does not answer. What is shown is what was known before.',
      'offline',
      0,
    );
  }
  if (answer.status === 401) sessionEnded();
  return answer;
}

type Json = Record<string, unknown>;

async function jsonOf(answer: Response): Promise<Json | null> {
  try {
    const body: unknown = await answer.json();
    return typeof body === 'object' && body !== null ? (body as Json) : null;
  } catch {
    return null;
  }
}

const textOr = (value: unknown, otherwise: string): string =>
  typeof value === 'string' && value !== '' ? value : otherwise;

/** Makes a problem (RFC 9457) an error. */
export async function problemOf(answer: Response): Promise<ApiError> {
  const { detail, title, code, ...details } = (await jsonOf(answer)) ?? {};
  const message = textOr(detail, textOr(title, `The server answered ${answer.status}.`));
  return new ApiError(message, textOr(code, 'internal_error'), answer.status, details);
}

/**
 * Runs a query or a mutation.
 *
 * @throws ApiError with the first error's message and code; a result with errors is no result
 */
export async function run<Result, Variables>(
  document: TadaDocumentNode<Result, Variables>,
  variables: Variables,
  signal?: AbortSignal,
): Promise<Result> {
  const answer = await send('POST', '/graphql', { query: document, variables }, signal);
  if (!(answer.headers.get('content-type') ?? '').includes('json')) throw await problemOf(answer);
  const body = (await jsonOf(answer)) ?? {};
  const errors = body.errors as readonly { message?: string; extensions?: Json }[] | undefined;
  const [error] = errors ?? [];
  if (error !== undefined) {
    const { code, ...details } = error.extensions ?? {};
    const message = textOr(error.message, 'The server refused it.');
    const refusal = new ApiError(message, textOr(code, 'internal_error'), answer.status, details);
    learnHorizon(refusal);
    throw refusal;
  }
  if (body.data === undefined)
    throw new ApiError(
      textOr(body.detail, `The server answered ${answer.status}.`),
      ...([textOr(body.code, 'internal_error'), answer.status] as const),
    );
  return body.data as Result;
}
