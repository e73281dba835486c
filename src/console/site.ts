import type { IncomingMessage } from 'node:http';
import type { CookieOptions } from 'express';
import { isLoopback } from '../lib/loopback.ts';

/** The header that the page sends with each request: neither a form nor a link of another site can. */
const OWN_HEADER = 'x-halyard-console';

/** Where browsers reach the console. */
export type Site = ReturnType<typeof makeSite>;

/**
 * Where browsers reach the console, and which of their requests are of its own page.
 *
 * @param url CONSOLE_URL. Without it the request's Host counts: plain http where that is of this machine, otherwise https, because a
 *   browser keeps a Secure cookie by no other way
 */
export function makeSite(url: string | null) {
  const originOf = ({ headers }: IncomingMessage): string => {
    if (url !== null) return url;
    const { host = '' } = headers;
    const isPlain = isLoopback(URL.parse(`http://${host}`)?.hostname ?? '');
    return `${isPlain ? 'http' : 'https'}://${host}`;
  };
  const isSecure = (request: IncomingMessage) => originOf(request).startsWith('https:');

  return {
    /** The scheme, host and port that the request's browser shows. */
    originOf,
    /** The address of a path there. */
    addressOf: (request: IncomingMessage, path: string) => new URL(path, originOf(request)),
    /**
     * Whether the console's own page sent a request: by Sec-Fetch-Site, which no script can set, or by Origin where a browser doesn't
     * send that; and by a header that takes a script.
     */
    isOwnPage(request: IncomingMessage): boolean {
      const { 'sec-fetch-site': from, origin, [OWN_HEADER]: mark } = request.headers;
      const isOwn = from === undefined ? origin === originOf(request) : from === 'same-origin';
      return isOwn && mark === '1';
    },
    /** Whether a page sent it over plain http from another machine, where a browser keeps no cookie of the console. */
    isExposed: ({ headers }: IncomingMessage): boolean =>
      url === null &&
      headers.origin === `http://${headers.host ?? ''}` &&
      !isLoopback(URL.parse(headers.origin)?.hostname ?? ''),
    /** Whether a page of the same origin opens a WebSocket: browsers say so, and no script can choose what they say. */
    isOwnUpgrade: (request: IncomingMessage) => request.headers.origin === originOf(request),
    /** The name and the attributes of a cookie. Over plain http a browser refuses the prefix __Host-, and Safari also Secure. */
    cookie(request: IncomingMessage, suffix = ''): { name: string; options: CookieOptions } {
      const secure = isSecure(request);
      const name = `${secure ? '__Host-halyard' : 'halyard-dev'}${suffix}`;
      return { name, options: { httpOnly: true, secure, sameSite: 'lax', path: '/' } };
    },
    /** The values of that cookie in a request: several where another server of this machine, or another path, has set one, too. */
    readCookies(request: IncomingMessage, suffix = ''): string[] {
      const { name } = this.cookie(request, suffix);
      const pairs = (request.headers.cookie ?? '').split(';').map((pair) => pair.trim());
      return pairs
        .filter((pair) => pair.startsWith(`${name}=`))
        .map((pair) => pair.slice(name.length + 1));
    },
  };
}
