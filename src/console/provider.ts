import type * as OpenidClient from 'openid-client';
import type { Config } from '../config/config.ts';
import { singleFlight } from '../lib/coalesce.ts';

/** Seconds that the identity provider may take for an answer. */
const TIMEOUT_S = 5;
/** Milliseconds for which what the provider says of itself counts. */
const FRESH_MS = 600_000;

export type OidcSettings = NonNullable<Config['console']['oidc']>;

/** The identity provider as it describes itself, and the library that speaks with it. */
export interface Provider {
  readonly client: typeof OpenidClient;
  readonly config: OpenidClient.Configuration;
}

/** The identity provider doesn't answer, or not as one: signing in can be tried again. */
export class ProviderDownError extends Error {
  override readonly name = 'ProviderDownError';

  constructor(error: unknown) {
    super(`The identity provider can’t be reached, or its answer can’t be read: ${sayAll(error)}.`);
  }
}

/** The identity provider, or what it answered, refuses this sign-in. */
export class SignInRefusedError extends Error {
  override readonly name = 'SignInRefusedError';
}

/** Characters of what an error says that are passed on: parts of it may be the provider's, or the browser's. */
const MAX_SAID = 1_000;

/**
 * What an error and its causes say, and what OAuth's answer says of it. The errors themselves aren't kept: they have bodies with tokens,
 * and claims, which must not get into a log.
 */
function sayAll(error: unknown): string {
  const said: string[] = [];
  for (let cause = error; cause instanceof Error && said.length < 10; cause = cause.cause) {
    const { error: code, error_description: description } = cause as Error &
      Readonly<Record<string, unknown>>;
    const texts = [code, description, cause.message].filter((text) => typeof text === 'string');
    said.push(...texts.map((text) => text.replace(/\.$/, '')));
  }
  return [...new Set(said)].join(': ').slice(0, MAX_SAID);
}

/** Codes of openid-client's errors that another try doesn't change; after others, as a time-out or an answer that isn't OAuth's, it may. */
const REFUSALS: ReadonlySet<unknown> = new Set([
  'OAUTH_AUTHORIZATION_RESPONSE_ERROR',
  'OAUTH_RESPONSE_BODY_ERROR',
  'OAUTH_WWW_AUTHENTICATE_CHALLENGE',
  'OAUTH_INVALID_RESPONSE',
  'OAUTH_JWT_TIMESTAMP_CHECK_FAILED',
  'OAUTH_JWT_CLAIM_COMPARISON_FAILED',
  'OAUTH_JSON_ATTRIBUTE_COMPARISON_FAILED',
]);
/** Codes of OAuth 2.0 (RFC 6749, 4.1.2.1) by which a provider says that it can't now. */
const PASSING: ReadonlySet<unknown> = new Set(['server_error', 'temporarily_unavailable']);

/**
 * Exchanges the code in the address to which the provider has sent the browser back.
 *
 * @returns the access token, and the ID token, whose claims are checked and whose signature isn't: it came from the provider itself
 * @throws SignInRefusedError, ProviderDownError
 */
export async function exchangeCode(
  { client, config }: Provider,
  address: URL,
  begun: { readonly state: string; readonly nonce: string; readonly verifier: string },
): Promise<{ access: string; id: string | null }> {
  const checks = {
    expectedState: begun.state,
    expectedNonce: begun.nonce,
    pkceCodeVerifier: begun.verifier,
    idTokenExpected: true,
  };
  try {
    const tokens = await client.authorizationCodeGrant(config, address, checks);
    return { access: tokens.access_token, id: tokens.id_token ?? null };
  } catch (error) {
    const { code, error: reason, status = 0 } = error as Readonly<Record<string, unknown>>;
    const isPassing = PASSING.has(reason) || Number(status) >= 500;
    if (isPassing || !REFUSALS.has(code)) throw new ProviderDownError(error);
    throw new SignInRefusedError(`The identity provider refused it: ${sayAll(error)}.`);
  }
}

/**
 * Asks the identity provider about itself (OpenID Connect Discovery) when that is needed, so that one that is down delays no start.
 *
 * @returns a function that rejects with ProviderDownError
 */
export function makeProvider(settings: OidcSettings): () => Promise<Provider> {
  let known: Provider | undefined;
  let knownUntil = 0;

  const discover = singleFlight(async () => {
    // With the first sign-in: most processes have none.
    const client = await import('openid-client');
    const { clientId, clientSecret } = settings;
    const issuer = new URL(settings.issuer);
    const authentication = clientSecret === null ? client.None() : undefined;
    const secret = clientSecret ?? undefined;
    const config = await client.discovery(issuer, clientId, secret, authentication, {
      timeout: TIMEOUT_S,
      // The setting takes http for loopback alone.
      // eslint-disable-next-line @typescript-eslint/no-deprecated -- marked so only to make it stand out
      ...(issuer.protocol === 'http:' && { execute: [client.allowInsecureRequests] }),
    });
    knownUntil = performance.now() + FRESH_MS;
    return (known = { client, config });
  });

  return async () => {
    if (known !== undefined && performance.now() < knownUntil) return known;
    try {
      return await discover();
    } catch (error) {
      throw new ProviderDownError(error);
    }
  };
}
