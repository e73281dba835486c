import { createSecretKey } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { NextFunction, Request, Response } from 'express';
import { expressjwt, UnauthorizedError, type GetVerificationKey } from 'express-jwt';
import type { Algorithm, JwtHeader } from 'jsonwebtoken';
import type { Config } from '../config/config.ts';
import { makeJwksKeys, type JwksOptions } from './jwks.ts';
import type { Logger } from '../lib/log.ts';
import { claimsFromPayload, findClaim, InvalidClaimsError, requireObject } from './claims.ts';
import type { ClaimNames, Claims } from './claims.ts';

/** Seconds by which clocks of the issuer and of this machine may differ, for exp and nbf. */
const CLOCK_TOLERANCE = 5;

const MESSAGES = {
  token_missing: 'Send a token: Authorization: Bearer <token>.',
  token_expired: 'The token has expired: ask for a new one.',
  token_invalid: 'The token is not valid here: ask for a new one.',
};

const WRONG_ALGORITHM =
  'Ask for a token of another signature: the alg in the head of this one is not in JWT_ALGORITHMS.';
const NO_KEY =
  'Ask this API’s identity provider for a token: the kid in the head of this one names no key of JWT_JWKS_URI.';

/** The caller isn't known: 401, with the challenge of RFC 6750 §3 in `headers`. */
export class AuthenticationError extends Error {
  override readonly name = 'AuthenticationError';
  readonly status = 401;
  readonly code: keyof typeof MESSAGES;
  readonly headers: Readonly<Record<string, string>>;

  /** @param options.detail what to say in place of the code's sentence */
  constructor(code: keyof typeof MESSAGES, options?: ErrorOptions & { detail?: string }) {
    super(options?.detail ?? MESSAGES[code], options);
    this.code = code;
    // A request without any token gets no error code (RFC 6750 §3.1).
    const challenge = code === 'token_missing' ? 'Bearer' : 'Bearer error="invalid_token"';
    this.headers = { 'WWW-Authenticate': challenge };
  }
}

/** Hears that a session has ended. */
type SessionEnd = (reason: 'signed_out' | 'token_expired') => void;

/** Finds the tokens of requests that bring none: those of sessions. Both resolve to null for a request that has no session. */
export interface SessionTokens {
  readonly ofRequest: (request: IncomingMessage) => Promise<string | null>;
  readonly ofUpgrade: (request: IncomingMessage) => Promise<string | null>;
  /**
   * Calls with the reason when the session of a request ends, by its user or by its time: its token may be good for longer.
   *
   * @returns a function that forgets that
   */
  readonly onEnd: (request: IncomingMessage, listener: SessionEnd) => () => void;
}

const claimsByRequest = new WeakMap<IncomingMessage, Claims>();

/** A request's claims. @throws Error when nothing verified it, so that a route that lacks the middleware fails closed */
export function claimsOf(request: IncomingMessage): Claims {
  const claims = claimsByRequest.get(request);
  if (claims === undefined)
    throw new Error('Mount the authentication middleware in front of this route.');
  return claims;
}

/**
 * Verifies tokens as the configuration says: signature with a pinned algorithm, exp and nbf, audience, issuer. A token without
 * exp is valid for good. Rejects with AuthenticationError (401), InvalidClaimsError (401) or KeysUnavailableError (503).
 *
 * @param options.onRefused hears the code of each 401
 * @param options.sessions asked for the tokens of requests without an Authorization header
 * @throws Error when the configuration has neither a secret nor a JWKS address
 */
export function makeAuthentication(
  jwt: Config['jwt'],
  log: Logger,
  {
    onRefused,
    sessions,
    ...jwksOptions
  }: JwksOptions & {
    onRefused?: (code: string) => void;
    sessions?: SessionTokens | undefined;
  } = {},
) {
  const verifier = expressjwt({
    secret: makeKeys(jwt, log, jwksOptions),
    algorithms: jwt.algorithms as Algorithm[],
    clockTolerance: CLOCK_TOLERANCE,
  });

  /** Gives express-jwt the header alone: it would let a request that looks like a CORS preflight through unverified. */
  function payloadOf(authorization: string | undefined): Promise<unknown> {
    const headers = authorization === undefined ? {} : { authorization };
    const carrier: { auth?: unknown } & object = { method: 'GET', headers } as object;
    return new Promise((resolve, reject) => {
      void verifier(carrier as unknown as Request, {} as unknown as Response, (error?: unknown) => {
        if (error === undefined) resolve(carrier.auth);
        else reject(fromExpressJwtError(error as Error));
      });
    });
  }

  async function readClaims(authorization: string | undefined): Promise<Claims> {
    const payload = await payloadOf(authorization);
    requireRecipient(payload, jwt, jwt.claims);
    return claimsFromPayload(payload, jwt.claims);
  }

  async function claimsFrom(
    authorization: string | undefined,
    log: Logger,
    ofSession?: () => Promise<string | null> | undefined,
  ): Promise<Claims> {
    try {
      // A token that the request brings wins.
      const claims = await readClaims(authorization ?? bearer(await ofSession?.()));
      if (claims.userId === null && claims.role === 'admin')
        log.warn(
          { claim: jwt.claims.userId ?? 'userId or sub' },
          'admin token without a user id: what it does is recorded without a name',
        );
      return claims;
    } catch (error) {
      if (isRefusal(error)) onRefused?.(error.code);
      throw error;
    }
  }

  return {
    /** Express 5: verifies the Authorization header and keeps the claims for claimsOf. */
    middleware: async (request: Request, _response: Response, next: NextFunction) => {
      // Once a request, also where the middleware is mounted twice: one warning each.
      if (!claimsByRequest.has(request)) {
        // The access log's, where there is one: it knows the request's id.
        const requestLog = (request as { log?: Logger }).log ?? log;
        const ofSession = () => sessions?.ofRequest(request);
        const { authorization } = request.headers;
        claimsByRequest.set(request, await claimsFrom(authorization, requestLog, ofSession));
      }
      next();
    },
    /** The same checks for a bare token. Rejects with the same errors. */
    verifyToken: (token: string) => claimsFrom(bearer(token), log),
    /** The same for a WebSocket: its token, or null for that of its session. */
    verifyUpgrade: (request: IncomingMessage, token: string | null) =>
      claimsFrom(bearer(token), log, () =>
        token === null ? sessions?.ofUpgrade(request) : undefined,
      ),
    /** Whether a bare token gives no right, as far as that is known: neither counted nor logged, as no request brings it. Never rejects. */
    refuses: (token: string): Promise<boolean> =>
      readClaims(bearer(token)).then(({ role }) => role === null, isRefusal),
    /** As SessionTokens has it. */
    onSessionEnd: (request: IncomingMessage, listener: SessionEnd) =>
      sessions?.onEnd(request, listener) ?? (() => undefined),
  };
}

/** Whether a token was refused: by its signature, time, issuer or audience, or by its claims. */
function isRefusal(error: unknown): error is AuthenticationError | InvalidClaimsError {
  return error instanceof AuthenticationError || error instanceof InvalidClaimsError;
}

/** The header for a token; undefined for none. */
function bearer(token: string | null | undefined): string | undefined {
  return token === null || token === undefined || token === '' ? undefined : `Bearer ${token}`;
}

export type Authentication = ReturnType<typeof makeAuthentication>;

function makeKeys(jwt: Config['jwt'], log: Logger, options?: JwksOptions): GetVerificationKey {
  const keys = makeKeySource(jwt, log, options);
  return async (request, token) => {
    // Before any key is looked up, so that such a token costs the identity provider nothing. `crit`
    // names extensions that must be understood (RFC 7515 §4.1.11); none are, and jsonwebtoken ignores it.
    // The header of a token may be any JSON.
    const header: unknown = token?.header;
    if (typeof header !== 'object' || header === null || 'crit' in header)
      throw new AuthenticationError('token_invalid');
    if (!jwt.algorithms.includes((header as JwtHeader).alg))
      throw new AuthenticationError('token_invalid', { detail: WRONG_ALGORITHM });
    const key = await keys(request, token);
    if (key === undefined) throw new AuthenticationError('token_invalid', { detail: NO_KEY });
    return key;
  };
}

function makeKeySource(jwt: Config['jwt'], log: Logger, options?: JwksOptions): GetVerificationKey {
  if (jwt.secret !== null) {
    // A KeyObject is a secret for good; a string that looks like a PEM would be taken for a public key.
    const key = createSecretKey(Buffer.from(jwt.secret));
    return () => key;
  }
  if (jwt.jwksUri === null) throw new Error('Give makeAuthentication a secret or a JWKS address.');
  if (jwt.audience === null)
    log.warn(
      'JWT_AUDIENCE is not set: tokens that the issuer signed for other services count here',
    );
  return makeJwksKeys(jwt.jwksUri, log, options);
}

/** express-jwt's errors as ours; anything that isn't about the token as it is. */
function fromExpressJwtError(error: Error): Error {
  if (!(error instanceof UnauthorizedError)) return error;
  if (error.code === 'credentials_required')
    return new AuthenticationError('token_missing', { cause: error });
  const expired = 'name' in error.inner && error.inner.name === 'TokenExpiredError';
  return new AuthenticationError(expired ? 'token_expired' : 'token_invalid', { cause: error });
}

/**
 * Checks that a verified payload was made for this API, by the issuer that counts here. A string is one audience, an array several.
 *
 * @param expected null for what isn't checked
 * @throws InvalidClaimsError that names the claim that was looked for, and not what is in it
 */
function requireRecipient(
  payload: unknown,
  expected: { readonly audience: string | null; readonly issuer: string | null },
  { audience: name }: Pick<ClaimNames, 'audience'>,
): void {
  const claims = requireObject(payload);
  const audience = findClaim(claims, name);
  const audiences: readonly unknown[] = Array.isArray(audience) ? audience : [audience];
  if (expected.audience !== null && !audiences.includes(expected.audience))
    throw new InvalidClaimsError(
      `Ask for a token for this API: its claim ${name} must name the audience that JWT_AUDIENCE names here, and ${lacks(audience)}.`,
    );
  const issuer = findClaim(claims, 'iss');
  if (expected.issuer !== null && issuer !== expected.issuer)
    throw new InvalidClaimsError(
      `Ask this API's identity provider for a token: its claim iss must be exactly what JWT_ISSUER is here, and ${lacks(issuer)}.`,
    );
}

function lacks(claim: unknown): string {
  return claim === undefined
    ? 'this token has no such claim'
    : 'the claim of this token is another';
}
