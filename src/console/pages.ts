import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import express, { type Request, type RequestHandler, type Response, type Router } from 'express';
import { isErrno } from '../lib/errno.ts';
import type { Build } from './build.ts';

/**
 * What the page may load and run (Content Security Policy, Level 3): scripts and styles from here alone, none written into the page, and
 * no text that becomes markup (Trusted Types).
 */
const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' data:",
  "connect-src 'self'",
  "font-src 'self'",
  "base-uri 'none'",
  "form-action 'self'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
].join('; ');

/** X-Content-Type-Options and Cache-Control: no-store are set for all answers. */
const PAGE_HEADERS = {
  'Content-Security-Policy': POLICY,
  'Referrer-Policy': 'no-referrer',
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Resource-Policy': 'same-origin',
};

/** For what isn't a page of the console: it runs nothing. */
const INERT_HEADERS = {
  ...PAGE_HEADERS,
  'Content-Security-Policy': "default-src 'none'; frame-ancestors 'none'",
};

/** The build names a file after what is in it. */
const ASSET_HEADERS = { ...INERT_HEADERS, 'Cache-Control': 'public, max-age=31536000, immutable' };

const TYPES: Readonly<Record<string, string>> = {
  css: 'text/css; charset=utf-8',
  ico: 'image/x-icon',
  js: 'text/javascript; charset=utf-8',
  json: 'application/json; charset=utf-8',
  png: 'image/png',
  svg: 'image/svg+xml; charset=utf-8',
  woff2: 'font/woff2',
};

/** scripts/prepare.mjs writes them; the first that the client takes is sent. */
const ENCODINGS = [
  ['br', '.br'],
  ['gzip', '.gz'],
] as const;

/**
 * The console's files: index.html at every address of a page, and what the build has made under /console/assets. They need neither a
 * token nor the database. What isn't there is left to the next handler.
 *
 * @param folder what scripts/prepare.mjs has made
 */
export function makePages(folder: string, build: Build): Router {
  const page: RequestHandler = async (_request, response) => {
    await build.settled();
    const html = await readIfThere(join(folder, 'index.html'));
    if (html === null) sendMissing(response, build.problem());
    else response.set(PAGE_HEADERS).type('html').send(html);
  };
  const router = express.Router();
  router.get('/', (_request, response) => response.redirect(302, '/console/'));
  router.get('/console/assets/:name', sendAsset(join(folder, 'assets')));
  router.use('/console/assets', (_request, _response, next) => next('router'));
  router.get('/console{/*page}', page);
  return router;
}

function sendAsset(folder: string): RequestHandler {
  return async (request, response, next) => {
    const name = String(request.params.name);
    const type = TYPES[/^[\w-][\w.-]*\.(\w+)$/.exec(name)?.[1] ?? ''];
    const found = type === undefined ? null : await readEncoded(request, join(folder, name));
    if (type === undefined || found === null) {
      next();
      return;
    }
    response.set(ASSET_HEADERS).set({ 'Content-Type': type, Vary: 'Accept-Encoding' });
    if (found.encoding !== null) response.set('Content-Encoding', found.encoding);
    response.send(found.bytes);
  };
}

/** The file in the shortest form that the client takes, or null when there is none. */
async function readEncoded(request: Request, file: string) {
  for (const [encoding, suffix] of ENCODINGS) {
    if (request.acceptsEncodings(encoding) === false) continue;
    const bytes = await readIfThere(file + suffix);
    if (bytes !== null) return { encoding, bytes };
  }
  const bytes = await readIfThere(file);
  return bytes === null ? null : { encoding: null, bytes };
}

async function readIfThere(file: string): Promise<Buffer | null> {
  try {
    return await readFile(file);
  } catch (error) {
    const gone = ['ENOENT', 'ENOTDIR', 'EISDIR', 'ENAMETOOLONG'];
    if (isErrno(error) && gone.includes(error.code)) return null;
    throw error;
  }
}

function sendMissing(response: Response, problem: string): void {
  response.set(INERT_HEADERS).status(503).type('html');
  response.send(`<!doctype html>
<html lang="en">
<title>Halyard: the console is not built</title>
<h1>The console is not built</h1>
<p>${problem}</p>
<p>The API is not affected.</p>
</html>
`);
}
