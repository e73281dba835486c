import { isUtf8 } from 'node:buffer';

import express from 'express';
import type { RequestHandler } from 'express';

import { ProblemError, PROBLEMS, type ProblemCode } from '../lib/errors.ts';

/** The largest body that a request needs is a description of 2,000 characters, or a GraphQL query of 20,000. */
const LIMIT = '64kb';

/** What body-parser calls its errors, of which only `type` is stable. */
const CODES: Readonly<Record<string, ProblemCode>> = {
  'entity.too.large': 'body_too_large',
  'entity.parse.failed': 'invalid_json',
  'charset.unsupported': 'unsupported_media_type',
  'encoding.unsupported': 'unsupported_media_type',
  'request.size.invalid': 'invalid_request',
};

const SENTENCES: Partial<Record<ProblemCode, string>> = {
  body_too_large: 'Send 64 kB at most.',
  invalid_json: 'Send a body that is valid JSON.',
  unsupported_media_type: 'Send JSON in UTF-8: Content-Type: application/json.',
  invalid_request: 'Send as many bytes as Content-Length says.',
};

/** Express: reads a JSON body of any kind into `request.body`; its errors are for ofBody. */
export function readJson(): RequestHandler {
  return express.json({
    limit: LIMIT,
    strict: false,
    inflate: false,
    // Decoding would put U+FFFD in the place of what isn't UTF-8, and that would be stored; body-parser takes UTF-7 too.
    verify(_request, _response, body, charset) {
      if (charset !== 'utf-8') throw bodyProblem('unsupported_media_type');
      if (!isUtf8(body)) throw bodyProblem('invalid_json');
    },
  });
}

/** An error of readJson as a problem, and any other as it is. */
export function ofBody(error: unknown): unknown {
  const type = error instanceof Error && 'type' in error ? error.type : undefined;
  const code = typeof type === 'string' ? CODES[type] : undefined;
  return code === undefined ? error : bodyProblem(code, error);
}

function bodyProblem(code: ProblemCode, cause?: unknown): ProblemError {
  return new ProblemError(code, SENTENCES[code] ?? `${PROBLEMS[code].title}.`, { cause });
}
