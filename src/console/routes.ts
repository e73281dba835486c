import express, { type NextFunction, type Request, type Response, type Router } from 'express';
import { z } from '../lib/zod.ts';
import { readJson } from '../http/json_body.ts';
import { makeErrorHandler, notFound, parse } from '../http/problems.ts';
import { ProblemError } from '../lib/errors.ts';
import type { Logger } from '../lib/log.ts';
import { DatabaseUnavailableError } from '../postgres/pool.ts';
import type { makeCodes } from './codes.ts';
import type { Oidc } from './oidc.ts';
import type { SignIn } from './sign_in.ts';
import type { Site } from './site.ts';

const pasted = z.strictObject({
  token: z.string().check(z.trim(), z.minLength(1), z.maxLength(8_192)),
});

interface RouteOptions {
  readonly site: Site;
  readonly signIn: SignIn;
  readonly codes: ReturnType<typeof makeCodes>;
  readonly oidc: Oidc | null;
  /** Whether a pasted token signs in. */
  readonly takesTokens: boolean;
  readonly version: string;
  readonly log: Logger;
}

/** How a browser signs in and out: /console/session, /console/enter, /console/sign-in/oidc and /console/callback. */
export function makeSessionRoutes(options: RouteOptions): Router {
  const { site, signIn, codes, oidc, takesTokens, version, log } = options;
  const about = {
    sign_in: { oidc: oidc?.name ?? null, token: takesTokens },
    version,
  };
  const requireOwnPage = (request: Request, _response: Response, next: NextFunction) => {
    if (!site.isOwnPage(request))
      throw new ProblemError(
        'forbidden',
        site.isExposed(request)
          ? 'Over plain http one signs in only on the machine itself, at 127.0.0.1 or localhost: use https, or a tunnel.'
          : 'Only the console’s own page may do this, with the header X-Halyard-Console: 1.',
      );
    next();
  };
  const router = express.Router();
  router.use((_request, response, next) => {
    response.setHeader('Content-Security-Policy', "default-src 'none'; frame-ancestors 'none'");
    response.setHeader('Referrer-Policy', 'no-referrer');
    next();
  });
  router
    .route('/console/session')
    .get(async (request, response) => {
      response.json({ ...(await signIn.state(request)), ...about });
    })
    .post(
      takesTokens ? requireOwnPage : () => notFound(),
      readJson(),
      async (request, response) => {
        const { token } = parse(pasted, request.body);
        response
          .status(201)
          .json({ ...(await signIn.begin(request, response, { token })), ...about });
      },
    )
    .delete(requireOwnPage, async (request, response) => {
      const idToken = await signIn.end(request, response);
      const url = await oidc?.endSessionUrl(request, idToken);
      response.json({ end_session_url: url ?? null });
    });
  router.get('/console/enter', async (request, response) => {
    if (!isNavigation(request)) {
      // A link scanner or a preview: the code still counts.
      response.status(503).end();
      return;
    }
    const { code } = request.query;
    const redeemed = codes.redeem(typeof code === 'string' ? code : '', async (token) => {
      await signIn.begin(request, response, { token });
    });
    try {
      const isKnown = await redeemed;
      response.redirect(303, isKnown ? '/console/' : '/console/sign-in?reason=link_used');
    } catch (error) {
      // A person follows the link, and the code counts again.
      if (!(error instanceof DatabaseUnavailableError)) throw error;
      response.redirect(303, '/console/sign-in?reason=unavailable');
    }
  });
  if (oidc !== null) {
    router.get('/console/sign-in/oidc', (request, response) => oidc.begin(request, response));
    router.get('/console/callback', (request, response) => oidc.finish(request, response));
  }
  // Errors end here: none of them is an attempt of a verified token.
  router.use(makeErrorHandler(log));
  return router;
}

/** Whether a person follows a link, as against a program that looks where it leads, or a browser that loads it in advance. */
function isNavigation({ method, headers }: Request): boolean {
  const isPrefetch = headers['sec-purpose'] !== undefined || headers.purpose === 'prefetch';
  return (
    method === 'GET' && !isPrefetch && (headers['sec-fetch-mode'] ?? 'navigate') === 'navigate'
  );
}
