import { isUtf8 } from 'node:buffer';
import express from 'express';
import type { Request, RequestHandler } from 'express';
import { ProblemError, type ProblemCode } from '../lib/errors.ts';

/** The largest body that a request needs is a plan of 200 changes, each of which takes up to 400 characters, and more with blanks. */
const LIMIT = '256kb';

type Message = readonly [ProblemCode, string];
const NOT_JSON: Message = ['invalid_json', 'Send a body that is valid JSON.'];
const NOT_UTF8: Message = [
  'unsupported_media_type',
  'Send JSON in UTF-8: Content-Type: application/json.',
];

/** Messages by body-parser's `type`, the only stable part of its errors. */
const MESSAGES: Readonly<Record<string, Message>> = {
  'entity.too.large': ['body_too_large', 'Send 256 kB at most.'],
  'entity.parse.failed': NOT_JSON,
  'charset.unsupported': NOT_UTF8,
  'encoding.unsupported': NOT_UTF8,
  'request.size.invalid': ['invalid_request', 'Send as many bytes as Content-Length says.'],
};

/** Express: reads a JSON body of any kind into `request.body`; its errors are for fromBodyError. */
export function readJson(): RequestHandler {
  return express.json({
    limit: LIMIT,
    strict: false,
    inflate: false,
    // Decoding would put U+FFFD in the place of what isn't UTF-8, and that would be stored; body-parser takes UTF-7 too.
    verify(_request, _response, body, charset) {
      if (charset !== 'utf-8') throw new ProblemError(...NOT_UTF8);
      if (!isUtf8(body)) throw new ProblemError(...NOT_JSON);
    },
  });
}

/** An error of readJson as a problem, and any other as it is. */
export function fromBodyError(error: unknown): unknown {
  const type = error instanceof Error && 'type' in error ? error.type : undefined;
  const message = typeof type === 'string' ? MESSAGES[type] : undefined;
  return message === undefined ? error : new ProblemError(...message, { cause: error });
}

/** A body that may be left out; null is not nothing, it is no object. */
export function optionalBody({ body = {} }: Request): unknown {
  return body;
}
