import type { Request, Response } from 'express';
import { ProblemError } from '../lib/errors.ts';

/**
 * Makes the cursors of a list: places in it, opaque to clients. A cursor is the sort key of the last item that the client has.
 *
 * @param shape a regular expression whose named groups are the parts of the key. It refuses the cursor of another list, and guards
 *   the database from text that is no key
 * @param write the text that `shape` matches
 */
export function makeCursor<T extends string>(
  shape: RegExp,
  write: (key: Readonly<Record<T, string>>) => string,
) {
  return {
    encode: (key: Readonly<Record<T, string>>) => Buffer.from(write(key)).toString('base64url'),
    /** @throws ProblemError invalid_request when it isn't a cursor of this list */
    decode(cursor: string | undefined): Readonly<Record<T, string>> | null {
      if (cursor === undefined) return null;
      const groups = shape.exec(Buffer.from(cursor, 'base64url').toString())?.groups;
      if (groups !== undefined) return groups as Record<T, string>;
      const message = 'must be the cursor of a Link of this list';
      const errors = [{ path: 'after', message }];
      throw new ProblemError('invalid_request', `after: ${message}.`, { errors });
    },
  };
}

const PLACE =
  /(?<at>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z):(?<id>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/
    .source;

/** A time of a row as text with microseconds, which a Date has not: without them a page would skip or repeat rows of one millisecond. */
export const preciseTime = (column: string) =>
  `to_char(${column} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`;

/** Makes the cursors of a list by a time with microseconds, and the id: one named `name`. */
export function makeTimeCursor(name: string) {
  return makeCursor<'at' | 'id'>(
    new RegExp(`^${name}:${PLACE}$`),
    ({ at, id }) => `${name}:${at}:${id}`,
  );
}

/** Cuts a list to its page, and links the next one (RFC 8288) when `rows` has one more than `limit`. */
export function paginate<T>(
  request: Request,
  response: Response,
  rows: readonly T[],
  limit: number,
  cursorOf: (row: T) => string,
): readonly T[] {
  const page = rows.slice(0, limit);
  const last = page.at(-1);
  if (rows.length > limit && last !== undefined)
    linkNext(request, response, { after: cursorOf(last) });
  return page;
}

/** Links the next page (RFC 8288): the request's own address with these parameters. */
export function linkNext(
  request: Request,
  response: Response,
  parameters: Readonly<Record<string, string>>,
): void {
  const url = new URL(request.originalUrl, 'http://localhost');
  for (const [name, value] of Object.entries(parameters)) url.searchParams.set(name, value);
  response.setHeader('Link', `<${url.pathname}${url.search}>; rel="next"`);
}
