import type { Request, Response } from 'express';
import { AuthenticationError } from '../auth/auth.ts';
import { InvalidClaimsError } from '../auth/claims.ts';
import { KeysUnavailableError } from '../auth/jwks.ts';
import { turnedAwayLevel } from '../http/problems.ts';
import type { Logger } from '../lib/log.ts';
import { DatabaseUnavailableError } from '../postgres/pool.ts';
import {
  exchangeCode,
  makeProvider,
  ProviderDownError,
  SignInRefusedError,
  type OidcSettings,
} from './provider.ts';
import type { Secrets } from './secrets.ts';
import type { SignIn } from './sign_in.ts';
import type { Site } from './site.ts';

const HOME = '/console/';
const CALLBACK = '/console/callback';
/** Of the cookie with what a sign-in began with. */
const SUFFIX = '-oidc';
/** Milliseconds that a person may take at the identity provider. */
const PATIENCE_MS = 600_000;
const CONTEXT = Buffer.from('sign-in');

/** What a sign-in began with, kept in an encrypted cookie until the identity provider sends the browser back. */
interface Begun {
  readonly state: string;
  readonly nonce: string;
  readonly verifier: string;
  readonly to: string;
  readonly endsAt: number;
}

interface OidcOptions {
  readonly settings: OidcSettings;
  /** JWT_AUDIENCE. */
  readonly audience: string | null;
  readonly site: Site;
  readonly secrets: Secrets;
  readonly signIn: SignIn;
  readonly log: Logger;
}

/** Signing in at the identity provider: OpenID Connect's authorization code flow with PKCE, state and nonce. */
export function makeOidc(options: OidcOptions) {
  const { settings, site, secrets, log } = options;
  const provider = makeProvider(settings);

  /** Sends the browser to the sign-in page, which says the reason. The log has all of it. */
  function fail(response: Response, reason: Reason, to: string): void {
    const query = new URLSearchParams({ reason, ...(to !== HOME && { to }) });
    response.redirect(303, `/console/sign-in?${query.toString()}`);
  }

  function readBegun(request: Request, response: Response): Begun | null {
    const { name, options: attributes } = site.cookie(request, SUFFIX);
    response.clearCookie(name, attributes);
    for (const cookie of site.readCookies(request, SUFFIX)) {
      const text = secrets.decrypt('sign-in', Buffer.from(cookie, 'base64url'), CONTEXT);
      const begun = text === null ? null : (JSON.parse(text) as Begun);
      if (begun !== null && begun.endsAt > Date.now()) return begun;
    }
    return null;
  }

  return {
    /** What its button says. */
    name: settings.name,

    /** GET /console/sign-in/oidc: sends the browser to the identity provider. */
    async begin(request: Request, response: Response): Promise<void> {
      const to = pagePath(request.query.to);
      try {
        const { client, config } = await provider();
        const verifier = client.randomPKCECodeVerifier();
        const [state, nonce] = [client.randomState(), client.randomNonce()];
        const url = client.buildAuthorizationUrl(config, {
          redirect_uri: site.addressOf(request, CALLBACK).href,
          ...{ scope: settings.scopes, state, nonce },
          code_challenge: await client.calculatePKCECodeChallenge(verifier),
          code_challenge_method: 'S256',
          // Auth0 makes a JWT for this API by it; others pass over it (RFC 6749, 3.1).
          ...(options.audience !== null && { audience: options.audience }),
        });
        const begun: Begun = { state, nonce, verifier, to, endsAt: Date.now() + PATIENCE_MS };
        const value = secrets.encrypt('sign-in', JSON.stringify(begun), CONTEXT);
        const { name, options: attributes } = site.cookie(request, SUFFIX);
        response.cookie(name, value.toString('base64url'), { ...attributes, maxAge: PATIENCE_MS });
        response.redirect(303, url.href);
      } catch (error) {
        if (!(error instanceof ProviderDownError)) throw error;
        log.warn({ err: error }, 'the identity provider can’t be reached for a sign-in');
        fail(response, 'provider_down', to);
      }
    },

    /** GET /console/callback: the identity provider has sent the browser back. */
    async finish(request: Request, response: Response): Promise<void> {
      const begun = readBegun(request, response);
      if (begun === null) {
        // Begun in another browser, too long ago, or finished already.
        fail(response, 'refused', HOME);
        return;
      }
      try {
        const tokens = await exchangeCode(
          await provider(),
          site.addressOf(request, request.originalUrl),
          begun,
        );
        await begin(request, response, tokens);
        response.redirect(303, begun.to);
      } catch (error) {
        const reason = reasonOf(error);
        if (reason === null) throw error;
        log[turnedAwayLevel(error)]({ err: error }, SENTENCES[reason]);
        fail(response, reason, begun.to);
      }
    },

    /** Where the identity provider signs the browser out too; null where it can't, or is down. */
    async endSessionUrl(request: Request, idToken: string | null): Promise<string | null> {
      if (idToken === null) return null;
      try {
        const { client, config } = await provider();
        if (config.serverMetadata().end_session_endpoint === undefined) return null;
        const back = site.addressOf(request, '/console/sign-in?reason=signed_out').href;
        return client.buildEndSessionUrl(config, {
          ...(idToken !== '' && { id_token_hint: idToken }),
          post_logout_redirect_uri: back,
        }).href;
      } catch (error) {
        log.warn({ err: error }, 'the identity provider can’t be reached for a sign-out');
        return null;
      }
    },
  };

  /**
   * The session's token is one that the API accepts by its JWT_* settings: the access token, or the ID token where the access token is
   * none that an API can read.
   */
  async function begin(
    request: Request,
    response: Response,
    { access, id }: { access: string; id: string | null },
  ): Promise<void> {
    try {
      await options.signIn.begin(request, response, { token: access, idToken: id });
    } catch (error) {
      if (!(error instanceof AuthenticationError) || isJwt(access) || id === null) throw error;
      log.debug('the access token is opaque: the ID token is tried in its place');
      await options.signIn
        .begin(request, response, { token: id, idToken: id })
        .catch((cause: unknown) => {
          throw new SignInRefusedError(OPAQUE, { cause });
        });
    }
  }
}

export type Oidc = ReturnType<typeof makeOidc>;

const OPAQUE =
  'The identity provider’s access token is opaque, and its ID token isn’t one that the JWT_* settings accept: have the provider make a JWT for the API (docs/console.md).';

function isJwt(token: string): boolean {
  return token.split('.').length === 3;
}

const SENTENCES = {
  provider_down: 'the identity provider can’t be reached for a sign-in',
  refused: 'a sign-in was refused',
  unavailable: 'a sign-in could not be kept',
};

type Reason = keyof typeof SENTENCES;

/** Why a sign-in failed, for the page; null for a fault of ours. */
function reasonOf(error: unknown): Reason | null {
  if (error instanceof DatabaseUnavailableError) return 'unavailable';
  if (error instanceof ProviderDownError || error instanceof KeysUnavailableError)
    return 'provider_down';
  const isRefused = [AuthenticationError, InvalidClaimsError, SignInRefusedError].some(
    (kind) => error instanceof kind,
  );
  return isRefused ? 'refused' : null;
}

/** A path of a page of the console; the first page for anything else, as the address of another site. */
function pagePath(to: unknown): string {
  if (typeof to !== 'string' || to.length > 2_000) return HOME;
  const base = 'http://console.invalid';
  const url = URL.parse(to, base);
  if (url?.origin !== base || !url.pathname.startsWith(HOME)) return HOME;
  return /^\/console\/(enter|callback|session|sign-in)(\/|$)/.test(url.pathname)
    ? HOME
    : `${url.pathname}${url.search}${url.hash}`;
}
